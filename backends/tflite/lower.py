"""From the float model to a float TFLite program that is proved to compute the same."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backend.protocol import TensorBinding
from edgec.backends.tflite import convert
from edgec.backends.tflite.layout import artifact_names, input_permutation, match_output, to_artifact
from edgec.backends.tflite.model import LiteModel
from edgec.backends.tflite.module_paths import Product
from edgec.backends.tflite.quantizable import make_quantizable, name_layers
from edgec.backends.tflite.quantize import Scheme, to_flatbuffer
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, FloatModel, TensorSpec
from edgec.passes.contract import PassContext
from edgec.target.spec import WEIGHT_ONLY

MIN_SQNR_DB = 40.0
"""Float against float: rounding alone leaves more than 100 dB, a wrong axis or a wrong constant less than 20."""
_SAMPLES = 2


def lower(model: FloatModel, ctx: PassContext) -> LiteModel:
    """The float TFLite program of `model`.

    Raises:
        UnsupportedError: an op has no TFLite form, or the conversion would change the function.
    """
    from edgec.model.export_onnx import export_onnx

    folder = ctx.work / "tflite"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    source = export_onnx(model, folder / "float.onnx")
    return lower_onnx(source, model.inputs, model.outputs, ctx, folder)


def lower_onnx(
    source: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], ctx: PassContext, folder: Path
) -> LiteModel:
    """The same from an ONNX file with fixed shapes.

    Args:
        source: ONNX file; left as it is.
        inputs: the float model's inputs; one that the ONNX graph does not read is left out of the artifact.
        outputs: the float model's outputs, in the graph's order.
        ctx: for calibration samples and seed.
        folder: scratch folder; the SavedModel stays in it.
    """
    simple = folder / "simple.onnx"
    prepared = convert.prepare(source, simple)
    specs = {spec.name: spec for spec in inputs}
    inputs = [specs[name] for name in prepared.inputs]
    convert.refuse_unknown_ops(simple)
    samples = _samples(inputs, ctx)
    reference = convert.reference_outputs(source, samples)
    problems: list[UnsupportedError] = []
    # NHWC inputs spare the device a transposition; a graph that onnx2tf gets wrong so may come out right without.
    for number, nhwc in enumerate((True, False)):
        if number and not any(input_permutation(spec) for spec in inputs):
            break
        attempt = folder / f"attempt{number}"
        attempt.mkdir()
        try:
            model = _attempt(simple, inputs, outputs, samples, reference, attempt, nhwc=nhwc)
        except UnsupportedError as exc:
            problems.append(exc)
            continue
        return _with_quantizable(model, prepared.products, ctx)
    raise problems[0]


def _with_quantizable(model: LiteModel, products: Sequence[Product], ctx: PassContext) -> LiteModel:
    """With the program that quantization starts from, where layers are quantized one by one."""
    if ctx.target.precision in WEIGHT_ONLY:
        return replace(model, quantizable=name_layers(model.content, products))
    if ctx.target.precision != "int8" or ctx.calibration is None or not len(ctx.calibration):
        return model
    quantizable = make_quantizable(model.saved_model, model.inputs, ctx.calibration, products)
    return replace(model, quantizable=quantizable)


def _attempt(
    simple: Path,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    samples: Sequence[dict[str, Array]],
    reference: Sequence[Sequence[Array]],
    folder: Path,
    *,
    nhwc: bool,
) -> LiteModel:
    orders = [input_permutation(spec) if nhwc else None for spec in inputs]
    names = artifact_names(spec.name for spec in (*inputs, *outputs))
    input_names, output_names = names[: len(inputs)], names[len(inputs) :]
    keep = [convert.input_name(k) for k, order in enumerate(orders) if order is None]
    keras = convert.to_keras(simple, keep, folder)
    saved_model = folder / "saved_model"
    convert.save_program(keras, input_names, output_names, saved_model)
    content = to_flatbuffer(saved_model, Scheme("none"))
    bound = tuple(
        TensorBinding(
            name=spec.name,
            artifact_name=name,
            shape=spec.shape if order is None else tuple(spec.shape[axis] for axis in order),
            dtype=spec.dtype,
            permutation=order,
        )
        for spec, name, order in zip(inputs, input_names, orders, strict=True)
    )
    results = _interpret(content, bound, output_names, samples)
    matched = []
    for spec, name, want, got in zip(outputs, output_names, reference, results, strict=True):
        order, error_db = match_output(want, got)
        if not error_db >= MIN_SQNR_DB:
            raise UnsupportedError(
                f'onnx2tf changes the function: output "{spec.name}" is {error_db:.0f} dB from the float model '
                f"(at least {MIN_SQNR_DB:.0f} dB is expected), shape {got[0].shape} for {want[0].shape}",
                where="tflite",
                hint="build this target with the onnxruntime backend, or replace the op that onnx2tf gets wrong",
            )
        matched.append(
            TensorBinding(
                name=spec.name,
                artifact_name=name,
                shape=got[0].shape,
                dtype=got[0].dtype.name,
                permutation=order,
            )
        )
    return LiteModel(content, saved_model, bound, tuple(matched))


def _samples(inputs: Sequence[TensorSpec], ctx: PassContext) -> list[dict[str, Array]]:
    if ctx.calibration is not None:
        count = min(_SAMPLES, len(ctx.calibration))
        return [ctx.calibration[index] for index in range(count)]
    random = np.random.default_rng(ctx.seed)

    def draw(spec: TensorSpec) -> Array:
        if spec.dtype.startswith("float"):
            return random.standard_normal(spec.shape).astype(spec.dtype)
        return random.integers(0, 2, spec.shape).astype(spec.dtype)  # 0 and 1 are valid ids of every table

    return [{spec.name: draw(spec) for spec in inputs} for _ in range(_SAMPLES)]


def _interpret(
    content: bytes, inputs: Sequence[TensorBinding], outputs: Sequence[str], samples: Sequence[dict[str, Array]]
) -> list[list[Array]]:
    """What the float flatbuffer gives for each sample; outer list: outputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    into = {item["name"]: item for item in interpreter.get_input_details()}
    out = {item["name"]: item for item in interpreter.get_output_details()}
    runs: list[list[Array]] = []
    for sample in samples:
        for item in inputs:
            array = to_artifact(np.asarray(sample[item.name], into[item.artifact_name]["dtype"]), item.permutation)
            interpreter.set_tensor(into[item.artifact_name]["index"], array)
        interpreter.invoke()
        runs.append([interpreter.get_tensor(out[name]["index"]) for name in outputs])
    return [list(column) for column in zip(*runs, strict=True)]
