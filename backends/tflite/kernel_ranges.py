"""Ranges that kernels insist on, whatever calibration saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of
from edgec.model.spec import Array

Range = tuple[float, float]

_FIXED: Mapping[str, Range] = {
    "L2_NORMALIZATION": (-1.0, 127 / 128),
    "LOGISTIC": (0.0, 255 / 256),
    "LOG_SOFTMAX": (-255 / 16, 0.0),
    "SOFTMAX": (0.0, 255 / 256),
    "TANH": (-1.0, 127 / 128),
}
"""Ops whose int8 kernels have one output scale (TensorFlow Lite 8-bit quantization specification)."""
_SAME_SCALE = frozenset(
    {"AVERAGE_POOL_2D", "EXPAND_DIMS", "MAXIMUM", "MAX_POOL_2D", "MINIMUM", "PAD", "RESHAPE", "SLICE", "SQUEEZE"}
    | {"STRIDED_SLICE", "TRANSPOSE"}
)
"""Ops whose input and output have one scale. TensorFlow's quantizer may give both the output's."""
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_LEAST_STEPS = 2.0
"""XNNPACK refuses a file in which an accumulator's step is 256 or more of the output's; this keeps it below 128."""


def fixed_ranges(model: Any) -> dict[int, Range]:
    """Tensors whose scale is that of the kernel that makes them, and what has the same scale after it."""
    fixed: dict[int, Range] = {}
    for operator, read, made in _dataflow(model):
        kind = kind_of(model, operator)
        if kind in _FIXED:
            fixed[made] = _FIXED[kind]
        elif kind in _SAME_SCALE and len(read) == 1 and read[0] in fixed:
            fixed[made] = fixed[read[0]]
    return fixed


def widen_dead(model: Any, ranges: dict[int, Range | None]) -> None:
    """Widen ranges so narrow that their scale breaks kernels, in place: of dead channels and outputs always zero.

    A product's output spans at least `_LEAST_STEPS` of its accumulator's steps; any other output that was always
    zero has the range of what it was made of.
    """
    for operator, read, made in _dataflow(model):
        value_range = ranges.get(made)
        source = next((ranges[index] for index in read if ranges.get(index)), None)
        if value_range is None or source is None:
            continue
        least = 0.0
        if kind_of(model, operator) in _WEIGHTED and (weight := _weight(model, operator)) is not None:
            least = _LEAST_STEPS * (source[1] - source[0]) / 255 * float(np.abs(weight).max(initial=0.0)) / 127
        elif value_range[0] == value_range[1]:
            least = source[1] - source[0]
        if value_range[1] - value_range[0] < least:
            ranges[made] = (value_range[0], value_range[0] + least)


def _dataflow(model: Any) -> Iterator[tuple[Any, list[int], int]]:
    """Each operator with the activations it reads and the first tensor it makes."""
    graph = model.subgraphs[0]
    floats = names_of("TensorType")
    for operator in graph.operators or ():
        read = [index for index in indices(operator.inputs) if index >= 0]
        read = [
            index
            for index in read
            if not is_constant(model, graph.tensors[index]) and floats[graph.tensors[index].type] == "FLOAT32"
        ]
        if outputs := indices(operator.outputs):
            yield operator, read, outputs[0]


def _weight(model: Any, operator: Any) -> Array | None:
    tensor = model.subgraphs[0].tensors[indices(operator.inputs)[1]]
    if not is_constant(model, tensor) or names_of("TensorType")[tensor.type] != "FLOAT32":
        return None
    return np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
