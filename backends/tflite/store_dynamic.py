"""Weights in int8 for kernels that quantize activations as they come: an edit of the float program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.backends.tflite.capability import MIN_DYNAMIC_ELEMENTS
from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.schema_parts import add_constant, codes_of, constant, opcode, set_codes
from edgec.backends.tflite.store_weights import CHANNEL_AXES
from edgec.quant.recipe import WeightGrid
from edgec.quant.weights import weight_scales


@dataclass(frozen=True)
class _Form:
    """How an op has int8 weights beside float activations: its inputs that hold weights, its version by granularity."""

    weights: tuple[int, ...]
    per_tensor: int
    per_channel: int


_FORMS: Mapping[str, _Form] = {
    "CONV_2D": _Form((1,), 2, 5),
    "DEPTHWISE_CONV_2D": _Form((1,), 4, 6),
    "FULLY_CONNECTED": _Form((1,), 9, 12),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _Form((1, 2, 3, 4, 5, 6, 7, 8, 16), 3, 3),
}
"""Versions as TensorFlow's converter writes them: runtimes refuse those they do not know."""
_PEEPHOLES = (9, 10, 11)


def store_dynamic(model: Any, *, per_channel: bool, per_channel_dense: bool) -> int:
    """Put the weights of all ops with such a kernel into codes, in place; return of how many ops.

    Args:
        model: float program (a ``ModelT``).
        per_channel: granularity of convolution weights; recurrent ones have one scale each.
        per_channel_dense: granularity of FULLY_CONNECTED weights.
    """
    graph = model.subgraphs[0]
    stored: dict[tuple[int, bool], int] = {}
    count = 0
    for item in graph.operators:
        kind = kind_of(model, item)
        form = _FORMS.get(kind)
        if form is None or not _fits(model, item, form):
            continue
        fine = per_channel_dense if kind == "FULLY_CONNECTED" else per_channel and kind in CHANNEL_AXES
        inputs = indices(item.inputs)
        for place in form.weights:
            if place >= len(inputs) or inputs[place] < 0:
                continue
            key = (inputs[place], fine)
            if key not in stored:
                stored[key] = _codes(model, inputs[place], CHANNEL_AXES.get(kind, 0), per_channel=fine)
            inputs[place] = stored[key]
        item.inputs = np.array(inputs, np.int32)
        item.opcodeIndex = opcode(model, kind, form.per_channel if fine else form.per_tensor)
        if hasattr(item.builtinOptions, "asymmetricQuantizeInputs"):
            item.builtinOptions.asymmetricQuantizeInputs = True
        count += 1
    return count


def _fits(model: Any, item: Any, form: _Form) -> bool:
    """Whether all weights of an op are constants in float, and one of them is large enough."""
    graph = model.subgraphs[0]
    inputs = indices(item.inputs)
    if form.weights[-1] > 1 and any(inputs[place] >= 0 for place in _PEEPHOLES):
        return False
    tensors = [graph.tensors[inputs[place]] for place in form.weights if place < len(inputs) and inputs[place] >= 0]
    floats = names_of("TensorType")
    if not all(is_constant(model, tensor) and floats[tensor.type] == "FLOAT32" for tensor in tensors):
        return False
    return max(int(np.prod(indices(tensor.shape))) for tensor in tensors) >= MIN_DYNAMIC_ELEMENTS


def _codes(model: Any, index: int, axis: int, *, per_channel: bool) -> int:
    source = model.subgraphs[0].tensors[index]
    weight = constant(model, source)
    grid = WeightGrid(limit=127, per_channel=per_channel)
    scales = weight_scales(weight, grid, axis)
    made = add_constant(model, f"{text(source.name)}/codes", codes_of(weight, scales, axis, grid.limit))
    set_codes(model, made, weight.shape, "INT8", scales, axis)
    return made
