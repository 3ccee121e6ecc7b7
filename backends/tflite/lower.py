"""From the float model to a float TFLite program that is proved to compute the same.

Two ways lead there: onnx2tf's direct converter, and TensorFlow's. The second, slower by far, is taken only where the
first has no form of an op or computes something else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgec.backends.interface import TensorBinding
from edgec.backends.tflite import by_tensorflow, direct, onnx_graph
from edgec.backends.tflite.finish import finish
from edgec.backends.tflite.flatbuffer import input_shapes, rename_interface
from edgec.backends.tflite.layout import artifact_names, input_permutation, match_output, to_artifact
from edgec.backends.tflite.model import LiteModel
from edgec.backends.tflite.quantizable import make_quantizable, name_layers
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, FloatModel, TensorSpec
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.target.spec import WEIGHT_ONLY

MIN_SQNR_DB = 40.0
"""Float against float: rounding alone leaves more than 100 dB, a wrong axis or a wrong constant less than 20."""
_SAMPLES = 2
HINT = "replace the op in the model, or build this target with the onnxruntime backend"


class Way(Protocol):
    """A converter: a module with these."""

    NAME: str

    def convert(self, file: Path, keep_layout: Sequence[str], work: Path) -> bytes:
        """The float flatbuffer of a file that `onnx_graph.prepare` made.

        Args:
            file: an ONNX file.
            keep_layout: inputs that keep their layout of axes.
            work: scratch folder.

        Raises:
            UnsupportedError: it cannot; the message names the op.
        """
        ...


WAYS: tuple[Way, ...] = (direct, by_tensorflow)
"""In the order they are tried."""


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


@dataclass(frozen=True)
class _Task:
    """What every way is given: a prepared file, and what its program must answer to samples."""

    file: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    samples: Sequence[dict[str, Array]]
    reference: Sequence[Sequence[Array]]
    bounded: Mapping[str, bool]
    """Output -> whether it is probabilities."""


def lower_onnx(
    source: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], ctx: PassContext, folder: Path
) -> LiteModel:
    """The same from an ONNX file with fixed shapes.

    Args:
        source: ONNX file; left as it is.
        inputs: the float model's inputs; one that the ONNX graph does not read is left out of the artifact.
        outputs: the float model's outputs, in the graph's order.
        ctx: for calibration samples and seed.
        folder: scratch folder.
    """
    prepared = onnx_graph.prepare(source, folder / "simple.onnx")
    specs = {spec.name: spec for spec in inputs}
    read = tuple(specs[name] for name in prepared.inputs)
    samples = _samples(read, ctx)
    reference = onnx_graph.reference_outputs(source, samples)
    bounded = dict(zip((item.name for item in outputs), onnx_graph.are_probabilities(source), strict=True))
    task = _Task(folder / "simple.onnx", read, tuple(outputs), samples, reference, bounded)
    model = _first_right(task, folder)
    model = replace(model, lowering=(*prepared.coverage, *model.lowering))
    prepared = prepared.called({onnx_graph.output_name(k): item.artifact_name for k, item in enumerate(model.outputs)})
    if ctx.target.precision in (*WEIGHT_ONLY, "int8-dynamic"):
        return replace(model, quantizable=name_layers(model.content, prepared))
    if ctx.target.precision != "int8" or ctx.calibration is None or not len(ctx.calibration):
        return model
    return replace(model, quantizable=make_quantizable(model.content, model.inputs, ctx.calibration, prepared))


def _first_right(task: _Task, folder: Path) -> LiteModel:
    """The program of the first way that computes the float model.

    Raises:
        UnsupportedError: none does; the message states how each failed.
    """
    # NHWC inputs spare the device a transposition; a graph that comes out wrong so may come out right without.
    layouts = (True, False) if any(input_permutation(spec) for spec in task.inputs) else (False,)
    failures: list[str] = []
    refused = ""
    for way in WAYS:
        if refused and way is by_tensorflow and (reason := _hopeless(task.file, refused, folder)):
            failures.append(reason)
            break
        for nhwc in layouts:
            attempt = folder / f"attempt{len(failures)}"
            attempt.mkdir()
            try:
                model = _attempt(way, task, attempt, nhwc=nhwc)
            except UnsupportedError as exc:
                print(f"tflite: {exc.what}")  # noqa: T201  # goes into the worker's log
                failures.append(exc.what)
                if isinstance(exc, direct.NodeRefusedError):
                    refused = exc.node
                    break  # another layout has the same ops
                continue
            return replace(model, lowering=_coverage(way, failures))
    raise UnsupportedError("; ".join(dict.fromkeys(failures)), where="tflite", hint=HINT)


def _hopeless(file: Path, node: str, folder: Path) -> str:
    """Why TensorFlow's way has no form of a node either; empty: it may have one."""
    alone = folder / "node"
    alone.mkdir()
    try:
        by_tensorflow.check_node(file, node, alone)
    except UnsupportedError as exc:
        print(f"tflite: {exc.what}")  # noqa: T201  # goes into the worker's log
        return exc.what
    return ""


def _coverage(way: Way, failures: Sequence[str]) -> tuple[Coverage, ...]:
    if way is WAYS[0]:
        return ()
    return (
        Coverage(
            subject="conversion", state="by onnx2tf by way of TensorFlow", reason="; ".join(dict.fromkeys(failures))
        ),
    )


def _attempt(way: Way, task: _Task, folder: Path, *, nhwc: bool) -> LiteModel:
    orders = [input_permutation(spec) if nhwc else None for spec in task.inputs]
    names = artifact_names(spec.name for spec in (*task.inputs, *task.outputs))
    input_names, output_names = names[: len(task.inputs)], names[len(task.inputs) :]
    keep = [onnx_graph.input_name(k) for k, order in enumerate(orders) if order is None]
    renamed = {onnx_graph.input_name(k): name for k, name in enumerate(input_names)}
    renamed |= {onnx_graph.output_name(k): name for k, name in enumerate(output_names)}
    content = finish(rename_interface(way.convert(task.file, keep, folder), renamed))
    shapes = input_shapes(content)
    bound = tuple(
        TensorBinding(
            name=spec.name,
            artifact_name=name,
            shape=shapes[name],  # of a scalar it may be [1]
            dtype=spec.dtype,
            permutation=order,
        )
        for spec, name, order in zip(task.inputs, input_names, orders, strict=True)
    )
    try:
        results = _interpret(content, bound, output_names, task.samples)
    except UnsupportedError as exc:
        raise UnsupportedError(f"{way.NAME}: {exc.what}", where="tflite") from exc
    matched = []
    for spec, name, want, got in zip(task.outputs, output_names, task.reference, results, strict=True):
        order, error_db = match_output(want, got, probabilities=task.bounded[spec.name])
        if not error_db >= MIN_SQNR_DB:
            raise UnsupportedError(
                f'{way.NAME} changes the function: output "{spec.name}" is {error_db:.0f} dB from the float model '
                f"(at least {MIN_SQNR_DB:.0f} dB is expected), shape {got[0].shape} for {want[0].shape}",
                where="tflite",
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
    return LiteModel(content, bound, tuple(matched))


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
    """What the float flatbuffer gives for each sample; outer list: outputs.

    Raises:
        UnsupportedError: LiteRT refuses the program.
    """
    from ai_edge_litert.interpreter import Interpreter

    runs: list[list[Array]] = []
    try:
        interpreter: Any = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
        into = {item["name"]: item for item in interpreter.get_input_details()}
        out = {item["name"]: item for item in interpreter.get_output_details()}
        for sample in samples:
            for item in inputs:
                array = np.asarray(sample[item.name], into[item.artifact_name]["dtype"])
                interpreter.set_tensor(into[item.artifact_name]["index"], to_artifact(array, item.permutation))
            interpreter.invoke()
            runs.append([interpreter.get_tensor(out[name]["index"]) for name in outputs])
    except (ValueError, RuntimeError) as exc:
        raise UnsupportedError(f"LiteRT refuses the program: {' '.join(str(exc).split())}", where="tflite") from exc
    return [list(column) for column in zip(*runs, strict=True)]
