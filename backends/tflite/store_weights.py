"""Weights in 8 or 4 bits, arithmetic in float32: an edit of the float program.

Each weight becomes codes, a DEQUANTIZE op and, where blocks of it have scales of their own, a RESHAPE: ops that every
TFLite runtime has, with the meaning they always had. A constant is dequantized once, when the program is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from edgec.backends.tflite.flatbuffer import indices, is_constant, kind_of, names_of, text
from edgec.backends.tflite.schema_parts import add_constant, add_floats, codes_of, constant, operator, set_codes
from edgec.model.spec import Array
from edgec.quant.recipe import WeightGrid
from edgec.quant.weights import mse_weight_scales, weight_scales

CHANNEL_AXES = {"CONV_2D": 0, "CONV_3D": 4, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""Op -> axis of its weight that counts output channels; the weight is its second input."""
_VERSIONS = {8: 5, 4: 6}
"""Bits -> version of DEQUANTIZE that has such codes with a scale per channel."""


@dataclass(frozen=True)
class Storage:
    """How weights are stored.

    Attributes:
        bits: 8 or 4; codes go from -(2^(bits-1) - 1) to 2^(bits-1) - 1.
        per_channel: a scale for each output channel, or one.
        block: 4 bits only: weights of one output channel that share a scale, where their number is a multiple of it.
    """

    bits: Literal[8, 4]
    per_channel: bool = True
    block: int | None = None

    @property
    def grid(self) -> WeightGrid:
        """Of one scale."""
        return WeightGrid(limit=2 ** (self.bits - 1) - 1, per_channel=self.per_channel)


def store_weights(model: Any, storage: Storage, kept: Collection[int]) -> tuple[int, int]:
    """Put the weights of all products into codes, in place.

    Args:
        model: float program (a ``ModelT``).
        storage: how.
        kept: places of operators that keep their float weights.

    Returns:
        How many weights are stored in codes, and how many of these in blocks.
    """
    graph = model.subgraphs[0]
    stored: dict[int, int] = {}
    ops: list[Any] = []
    blocks = 0
    for place, step in enumerate(list(graph.operators)):
        axis = CHANNEL_AXES.get(kind_of(model, step))
        if axis is None or place in kept:
            continue
        index = int(step.inputs[1])
        if index not in stored:
            tensor = graph.tensors[index]
            if not is_constant(model, tensor) or names_of("TensorType")[tensor.type] != "FLOAT32":
                continue
            stored[index], made = _store(model, index, axis, storage)
            ops += made
            blocks += len(made) > 1
        step.inputs = [*step.inputs[:1], stored[index], *step.inputs[2:]]
    graph.operators = [*ops, *graph.operators]
    return len(stored), blocks


def _store(model: Any, index: int, axis: int, storage: Storage) -> tuple[int, list[Any]]:
    """The tensor that stands for weight `index` from now on, and the ops that make it."""
    source = model.subgraphs[0].tensors[index]
    shape = tuple(indices(source.shape))
    weight = constant(model, source)
    channel = prod(shape) // shape[axis]
    blocked = bool(storage.block) and storage.per_channel and axis == 0 and channel % (storage.block or 1) == 0
    name = text(source.name)
    if blocked and channel > (storage.block or 0):
        rows = weight.reshape(-1, storage.block or 1)
        scales = block_scales(weight, rows, storage)
        codes = _tensor(model, f"{name}/codes", rows, scales, 0, storage)
        values = add_floats(model, f"{name}/blocks", rows.shape)
        result = add_floats(model, f"{name}/stored", shape)
        size = add_constant(model, f"{name}/shape", np.array(shape, np.int32))
        return result, [
            operator(model, "DEQUANTIZE", _VERSIONS[storage.bits], [codes], [values]),
            operator(model, "RESHAPE", 1, [values, size], [result]),
        ]
    fit = weight_scales if storage.bits == 8 else mse_weight_scales
    codes = _tensor(model, f"{name}/codes", weight, fit(weight, storage.grid, axis), axis, storage)
    result = add_floats(model, f"{name}/stored", shape)
    return result, [operator(model, "DEQUANTIZE", _VERSIONS[storage.bits], [codes], [result])]


def block_scales(weight: Array, rows: Array, storage: Storage) -> Array:
    """For each block the scale of least error: its own, or its channel's, on whose grid trained weights may lie.

    Args:
        weight: of a layer, [channels, ...].
        rows: the same as blocks.
        storage: how codes are stored.
    """
    own = mse_weight_scales(rows, storage.grid, 0)
    channel = np.repeat(weight_scales(weight, storage.grid, 0), len(rows) // len(weight))

    def errors(scales: Array) -> Array:
        codes = np.clip(np.rint(rows / scales[:, None]), -storage.grid.limit, storage.grid.limit)
        squared: Array = np.square(codes * scales[:, None] - rows, dtype=np.float64).sum(axis=1)
        return squared

    better: Array = np.where(errors(channel) < errors(own), channel, own).astype(np.float32)
    return better


def _tensor(model: Any, name: str, weight: Array, scales: Array, axis: int, storage: Storage) -> int:
    """A constant of codes."""
    codes = codes_of(weight, scales, axis, storage.grid.limit)
    index = add_constant(model, name, codes if storage.bits == 8 else packed(codes))
    set_codes(model, index, weight.shape, f"INT{storage.bits}", scales, axis)
    return index


def packed(codes: Array) -> Array:
    """Two 4-bit codes a byte, the first in the low half."""
    flat = codes.reshape(-1)
    flat = np.append(flat, np.zeros(flat.size % 2, np.int8))
    packed: Array = (flat[0::2] & 15 | (flat[1::2] & 15) << 4).astype(np.uint8)
    return packed
