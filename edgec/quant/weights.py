"""Scales of weights: symmetric, zero-point 0, per channel or per tensor."""

from __future__ import annotations

import numpy as np

from edgec.quant.histogram import Array
from edgec.quant.qparams import SMALLEST_SCALE
from edgec.quant.recipe import WeightGrid

_SHRINKING = np.linspace(1.0, 0.3, 71)
"""Parts of the whole range that the search tries, the whole one first."""


def weight_scales(weight: Array, grid: WeightGrid, axis: int) -> Array:
    """Scales max|w| / limit, float32 [channels], or [1] if the grid is per tensor.

    Args:
        weight: finite.
        grid: what codes there are.
        axis: of the output channels.
    """
    largest = np.abs(_rows(weight, grid, axis)).max(axis=1, initial=0.0)
    scales: Array = np.maximum(largest / grid.limit, SMALLEST_SCALE).astype(np.float32)
    return scales


def mse_weight_scales(weight: Array, grid: WeightGrid, axis: int) -> Array:
    """Scales of least squared error of the weights rounded and clipped to the grid, searched per channel.

    Tries max|w| / limit times 1, 0.99, ... 0.3 and keeps the largest of the best: no channel becomes worse than with
    `weight_scales`. Worth it from about 5 bits down; of 8 bits the whole range is nearly always best.

    Args:
        weight: of a layer.
        grid: of the backend.
        axis: of the output channels.
    """
    rows = _rows(weight, grid, axis)
    whole = weight_scales(weight, grid, axis)
    best, least = whole.copy(), np.full(len(rows), np.inf)
    for part in _SHRINKING:
        scales = np.maximum(whole * np.float32(part), np.float32(SMALLEST_SCALE))
        codes = np.clip(np.rint(rows / scales[:, None]), -grid.limit, grid.limit)
        codes *= scales[:, None]
        codes -= rows
        errors = np.einsum("ij,ij->i", codes, codes, dtype=np.float64)
        better = errors < least
        best[better], least[better] = scales[better], errors[better]
    return best


def _rows(weight: Array, grid: WeightGrid, axis: int) -> Array:
    """[channels, any], or [1, any] if the grid is per tensor."""
    weight = np.asarray(weight, np.float32)
    if not grid.per_channel:
        return weight.reshape(1, -1)
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
