"""Quantize and dequantize in float, with a straight-through gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from edgec.passes.weight_layers import by_output, is_transposed
from edgec.passes.weight_simulation import grid_scale
from edgec.quant.qparams import SMALLEST_SCALE
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import WeightGrid
from edgec.quant.statistics import TensorStatistics
from edgec.quant.weights import mse_weight_scales

AVERAGING = 0.01
"""Weight of a new batch in a range that follows the activations."""
LARGEST_RANGE = 1e6
"""Beyond this a tensor holds something like an attention mask, of which 8 bits leave nothing."""
_COARSE = 15
"""Grids of up to this many codes a side gain when the few largest weights of a channel are clipped."""


def scales_of(layer: Any, weight: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """Scales of `weight` of `layer` on `grid`, in a shape that broadcasts to the weight's."""
    return _broadcast(layer, grid_scale(by_output(layer, weight), grid), weight)


def clip_to_grid(layer: Any, weight: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """`weight` with its range cut to that of least squared error after rounding; as it is where the grid is fine."""
    if grid.limit > _COARSE:
        return weight
    rows = by_output(layer, weight)
    best = torch.from_numpy(mse_weight_scales(rows.detach().numpy(), grid, 0)).reshape(-1, 1)
    part = best.expand(len(rows), 1) / grid_scale(rows, grid)
    limits = scales_of(layer, weight, grid) * grid.limit * _broadcast(layer, part, weight)
    return torch.maximum(torch.minimum(weight, limits), -limits)


def place_on_grid(layer: Any, weight: torch.Tensor, grid: WeightGrid) -> torch.Tensor:
    """`weight` rounded to the codes of `grid`.

    The largest of each channel stays as it is: so ``max|w| / limit`` gives the same scale again to
    the last bit, and the same codes.
    """
    scale, most = scales_of(layer, weight, grid), math.floor(grid.limit)
    largest = by_output(layer, weight).abs().amax(dim=1, keepdim=True)
    largest = _broadcast(layer, largest if grid.per_channel else largest.amax().expand_as(largest), weight)
    codes = (weight / scale).round().clamp(-most, most)
    ends = (codes.abs() == grid.limit) | (weight.abs() == largest)
    return torch.where(ends, torch.copysign(largest.expand_as(weight), weight), codes * scale)


class GridWeight(nn.Module):
    """Parametrization of a layer's weight: what its backend will make of it, and the weight's own gradient.

    The scale follows the largest weight of a channel in every step, so no weight is ever outside the grid, and rounding
    has a gradient of 1 (Bengio et al. 2013, https://arxiv.org/abs/1308.3432). A gradient of the scale gains nothing.
    """

    def __init__(self, layer: Any, grid: WeightGrid) -> None:
        super().__init__()
        self._layer = (layer,)  # not a submodule: it holds this one
        self._grid = grid

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight on the grid."""
        with torch.no_grad():
            scale, most = scales_of(self._layer[0], weight, self._grid), math.floor(self._grid.limit)
            moved = (weight / scale).round().clamp(-most, most) * scale - weight
        return weight + moved


class ActivationRange(nn.Module):
    """8 bits, affine, codes 0 to 255, one range a tensor; a module is called wherever tensors share its range.

    Args:
        fixed: the range of an op that has one by nature; None: as observed.
    """

    def __init__(self, fixed: tuple[float, float] | None) -> None:
        super().__init__()
        low, high = fixed or (0.0, 0.0)
        self.low: torch.Tensor
        self.high: torch.Tensor
        self.register_buffer("low", torch.tensor(low))
        self.register_buffer("high", torch.tensor(high))
        self.fixed = fixed is not None
        self.following = False
        """Whether the range moves with each batch."""
        self.refused = ""
        """Why the tensor stays float."""
        self._statistics: TensorStatistics | None = None

    def begin(self) -> None:
        """Observe from now on, without quantizing."""
        self._statistics = None if self.fixed else TensorStatistics(histogram=False)

    def end(self) -> None:
        """Take the range of all that was observed (min-max, as backends do at first)."""
        statistics, self._statistics = self._statistics, None
        if statistics is None:
            return
        self.refused = ""
        if not statistics.finite:
            self.refused = "its values are not finite" if statistics.samples else "no sample reaches it"
        elif max(-statistics.low, statistics.high) > LARGEST_RANGE:
            self.refused = f"its values reach beyond {LARGEST_RANGE:.0e}"
        else:
            low, high = choose_range(statistics, "minmax")
            self.low.fill_(low)
            self.high.fill_(high)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """`value`, rounded to its codes."""
        if self._statistics is not None:
            self._statistics.observe(value.detach().numpy())
            return value
        if self.refused:
            return value
        if self.following and not self.fixed and value.numel():
            with torch.no_grad():
                self.low += AVERAGING * (value.min().clamp(max=0.0) - self.low)
                self.high += AVERAGING * (value.max().clamp(min=0.0) - self.high)
        scale = ((self.high - self.low) / 255).clamp(min=SMALLEST_SCALE)
        zero_point = (-self.low / scale).round().clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero_point, 0, 255)


def is_coarse(grid: WeightGrid) -> bool:
    """Whether `grid` has about 4 bits or less, which takes more training than 8 do."""
    return grid.limit <= _COARSE


def _broadcast(layer: Any, by_channel: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(output channels, 1) in a shape that broadcasts to the weight's."""
    ones = [1] * (weight.dim() - 2)
    if not is_transposed(layer):
        return by_channel.reshape(-1, 1, *ones)
    groups = int(layer.groups)
    spread = by_channel.reshape(groups, 1, -1).expand(groups, layer.in_channels // groups, -1)
    return spread.reshape(layer.in_channels, -1, *ones)
