"""Weights as a backend will round them: symmetric codes on a grid."""

from __future__ import annotations

import math
from typing import Any

import torch

from edgec.passes.weight_layers import by_output, is_transposed
from edgec.quant.recipe import WeightGrid


def grid_scale(rows: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """Scale of each row of (output channels, weights), shape (output channels, 1); 1 where all weights are zero."""
    largest = rows.abs().amax(dim=1, keepdim=True)
    if not grid.per_channel:
        largest = largest.amax().expand_as(largest)
    scale = largest / grid.limit
    return torch.where(scale > 0, scale, torch.ones_like(scale))


def rounded(rows: torch.Tensor, scale: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """Rows on the grid, to nearest.

    Args:
        rows: [channels, weights].
        scale: [channels, 1].
        grid: of the backend.
    """
    limit = math.floor(grid.limit)
    return (rows / scale).round().clamp(-limit, limit) * scale


def simulated_weight(module: Any, grid: WeightGrid) -> torch.Tensor:
    """The weight of a layer as the backend will see it, in the layer's own shape."""
    weight: torch.Tensor = module.weight.detach()
    rows = by_output(module, weight)
    result = rounded(rows, grid_scale(rows, grid), grid)
    if not is_transposed(module):
        return result.reshape(weight.shape)
    groups, inputs = module.groups, module.in_channels // module.groups
    return result.reshape(groups, weight.shape[1], inputs, -1).transpose(1, 2).reshape(weight.shape)
