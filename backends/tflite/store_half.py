"""Constants stored as float16, arithmetic in float32: an edit of the float program."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.schema_parts import add_constant, add_floats, constant, operator
from edgec.model.spec import Array
from edgec.quant.half import spared, to_half

_VERSION = 3
"""Of DEQUANTIZE, which has taken float16 since then."""
_LEAST = 2
"""Elements of a constant that is stored so. Single numbers stay: an epsilon of 1e-12 would become zero."""
_CHANNEL_AXES = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "CONV_3D": 4}
"""Op -> axis of output channels of its weights."""
_LARGEST_ERROR = 1e-6
"""Of a constant's energy (60 dB): rounding to 11 bits leaves a tenth of it, what underflows far more."""


def store_half(model: Any) -> tuple[int, tuple[str, ...], int]:
    """Store the float constants of a program as float16, in place, each made float32 again when it is loaded.

    Returns:
        How many are stored so; the names of those that float16 does not hold, which stay; and how many of the smallest
        stay too (`edgec.quant.half.spared`).
    """
    graph = model.subgraphs[0]
    floats = names_of("TensorType")
    small = spared(_sizes(model))
    stored: dict[int, int] = {}
    ops: list[Any] = []
    beyond: dict[int, str] = {}
    for step in list(graph.operators):
        inputs = indices(step.inputs)
        for place, index in enumerate(inputs):
            if index < 0 or index in beyond:
                continue
            tensor = graph.tensors[index]
            if index not in stored:
                if not is_constant(model, tensor) or floats[tensor.type] != "FLOAT32":
                    continue
                values = constant(model, tensor)
                if values.size < _LEAST or str(index) in small:
                    continue
                if (half := _half(values, _CHANNEL_AXES.get(kind_of(model, step)) if place else None)) is None:
                    beyond[index] = text(tensor.name)
                    continue
                codes = add_constant(model, f"{text(tensor.name)}/half", half)
                stored[index] = add_floats(model, f"{text(tensor.name)}/stored", values.shape)
                ops.append(operator(model, "DEQUANTIZE", _VERSION, [codes], [stored[index]]))
            inputs[place] = stored[index]
        step.inputs = np.array(inputs, np.int32)
    graph.operators = [*ops, *graph.operators]
    return len(stored), tuple(beyond.values()), len(small)


def _sizes(model: Any) -> dict[str, int]:
    """Number of each float constant that is read -> its elements."""
    graph, floats = model.subgraphs[0], names_of("TensorType")
    read = {index for step in graph.operators for index in indices(step.inputs) if index >= 0}
    sizes = {
        index: constant(model, graph.tensors[index]).size
        for index in sorted(read)
        if is_constant(model, graph.tensors[index]) and floats[graph.tensors[index].type] == "FLOAT32"
    }
    return {str(index): size for index, size in sizes.items() if size >= _LEAST}


def _half(values: Array, axis: int | None) -> Array | None:
    """`values` as float16; None: they are beyond its range, or so small that it keeps too little of them."""
    with np.errstate(over="ignore"):
        half = to_half(values, axis if np.isfinite(values).all() and values.ndim > 1 else None)
    if not np.array_equal(np.isfinite(half), np.isfinite(values)):
        return None
    finite = np.isfinite(values)
    error = np.square(half[finite].astype(np.float64) - values[finite]).sum()
    return half if error <= _LARGEST_ERROR * np.square(values[finite], dtype=np.float64).sum() else None
