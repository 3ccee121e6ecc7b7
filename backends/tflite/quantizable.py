"""The float program that static quantization starts from, with a place for every activation's range.

TensorFlow's quantizer reads ranges from the quantization parameters of a float flatbuffer, where its own calibrator
would have written them; edgec writes its own there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.backends.interface import TensorBinding
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, pack, text, unpack
from edgec.backends.tflite.int8_forms import write_int8_forms
from edgec.backends.tflite.layers import PlacedLayer, find_layers, name_tensors
from edgec.backends.tflite.onnx_graph import Prepared
from edgec.dataset.spool import Spool

_SAME_VALUES = frozenset({"EXPAND_DIMS", "PAD", "RESHAPE", "REVERSE_V2", "SQUEEZE", "TRANSPOSE"})
"""Ops whose output has the values of their first input (a pad adds zeros, which every range holds)."""


@dataclass(frozen=True)
class Quantizable:
    """A float flatbuffer and its layers.

    Attributes:
        content: the flatbuffer; tensors are named by layer (`name_tensors`), inputs and outputs too.
        layers: what a recipe may keep in float.
        own_ranges: whether edgec sets the ranges. Subgraphs of loops and branches cannot be observed from outside;
            a program that has them keeps the ranges of TensorFlow's calibrator, over all samples.
    """

    content: bytes
    layers: tuple[PlacedLayer, ...]
    own_ranges: bool = True


def make_quantizable(
    content: bytes, inputs: Sequence[TensorBinding], calibration: Spool, prepared: Prepared
) -> Quantizable:
    """The float program that the quantizer takes, every activation marked as one that needs a range.

    Args:
        content: the float program.
        inputs: how samples are fed.
        calibration: for programs with loops or branches.
        prepared: the ONNX graph it was made from.
    """
    model = unpack(content)
    own_ranges = len(model.subgraphs) == 1
    if not own_ranges:
        from edgec.backends.tflite.by_calibrator import calibrate

        model = unpack(calibrate(content, inputs, calibration))
    write_int8_forms(model)
    layers = find_layers(model, prepared.products, prepared.origins)
    name_tensors(model, layers)
    if own_ranges:
        _mark(model)
    return Quantizable(pack(model), layers, own_ranges)


def _mark(model: Any) -> None:
    """Give every float activation a range of nothing yet."""
    from ai_edge_litert import schema_py_generated as schema

    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.FLOAT32 and not is_constant(model, tensor) and not tensor.isVariable:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.min = tensor.quantization.max = np.zeros(1, np.float32)


def name_layers(content: bytes, prepared: Prepared) -> Quantizable:
    """A float program as it is, its tensors named by layer: for quantization of weights only, which needs no ranges."""
    model = unpack(content)
    layers = find_layers(model, prepared.products, prepared.origins)
    name_tensors(model, layers)
    return Quantizable(pack(model), layers, own_ranges=False)


def ranged_tensors(model: Any) -> tuple[int, ...]:
    """Activations of the main graph that need a range, without those that have another's values."""
    graph = model.subgraphs[0]
    same = same_values(model)
    return tuple(index for index, tensor in enumerate(graph.tensors) if _has_range(model, tensor) and index not in same)


def same_values(model: Any) -> dict[int, int]:
    """Tensor -> the tensor that has the same values in another order or shape."""
    graph = model.subgraphs[0]
    sources: dict[int, int] = {}
    for operator in graph.operators or ():
        if kind_of(model, operator) in _SAME_VALUES:
            source, target = indices(operator.inputs)[0], indices(operator.outputs)[0]
            if all(_has_range(model, graph.tensors[index]) for index in (source, target)):
                sources[target] = sources.get(source, source)
    return sources


def rectified_tensors(model: Any) -> frozenset[int]:
    """Tensors that are never negative, because the op that makes them ends in a ReLU."""
    from ai_edge_litert import schema_py_generated as schema

    fused = {schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6}
    rectified = set()
    for operator in model.subgraphs[0].operators or ():
        ends = getattr(operator.builtinOptions, "fusedActivationFunction", None)
        if ends in fused or kind_of(model, operator) in ("RELU", "RELU6", "SOFTMAX", "LOGISTIC"):
            rectified.update(indices(operator.outputs))
    return frozenset(rectified)


def set_ranges(model: Any, ranges: Mapping[int, tuple[float, float] | None]) -> None:
    """Write the range of each tensor (None: it has none and cannot be quantized), in place."""
    for index, value_range in ranges.items():
        quantization = model.subgraphs[0].tensors[index].quantization
        quantization.min = None if value_range is None else np.array([value_range[0]], np.float32)
        quantization.max = None if value_range is None else np.array([value_range[1]], np.float32)


def signature_names(model: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Input and output names of the signature, with the tensor each stands for."""
    (signature,) = model.signatureDefs
    inputs = {text(item.name): int(item.tensorIndex) for item in signature.inputs or ()}
    return inputs, {text(item.name): int(item.tensorIndex) for item in signature.outputs or ()}


def _has_range(model: Any, tensor: Any) -> bool:
    quantization = tensor.quantization
    return quantization is not None and quantization.min is not None and not is_constant(model, tensor)
