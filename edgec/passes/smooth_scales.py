"""Smoothing: what makes some channels of a linear layer's input large goes into its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import checked, finish, own_graph
from edgec.passes.weight_layers import SampledPass, compared, quiet_torch, run_side_by_side, sample_of, spread
from edgec.quant.recipe import WeightGrid

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.passes.smoothing_groups import Group

SAMPLES = 32
"""Calibration samples that the channels' ranges are taken from."""
COMPARED = 8
"""Those among them that candidates for the factors are compared on."""
ROWS = 64
"""Rows of each of them that are multiplied; ranges are those of all rows."""
EXPONENTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_WORTH = 0.8
"""Share of a group's error that may be left for smoothing to be worth it."""


@dataclass(frozen=True)
class SmoothScales(SampledPass):
    """Divide channel j of what linear layers read by s_j, and multiply column j of their weights by it.

    ``s_j = max|x_j|^a / max|w_j|^(1 - a)`` (Xiao et al. 2022, SmoothQuant, https://arxiv.org/abs/2211.10438, section 4,
    equations 3 and 4), over the calibration samples and over all layers that read the tensor. The exponent a is chosen
    for each tensor: the one with which layers whose weights and inputs are rounded come nearest to the float ones.
    Factors are relative: their geometric mean is 1.

    The division goes into the gain and bias of the norm that makes the tensor, where nothing else reads that. Elsewhere
    it takes a multiplication (of one factor for each channel), which only float inputs can have: it is done where
    layers quantize their inputs as the model runs.

    Layers that the backend will keep in float are smoothed too, which changes nothing of them: recipes that differ in
    these layers share the result.
    """

    grid: WeightGrid
    dynamic: bool = False
    """Whether each sample has a range of its own, and inputs are in float before."""

    name: ClassVar[str] = "smooth-scales"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Smooth all groups of layers; the outputs are compared with those before.

        Raises:
            PassError: the outputs are not those before.
        """
        from edgec.passes.smoothing_groups import apply_factors, find_groups

        graph, spool = own_graph(model), ctx.samples(self.name)
        samples = [sample_of(spool, model.inputs, index) for index in spread(len(spool), SAMPLES)]
        with quiet_torch(ctx.threads):
            groups, left = find_groups(graph, multiply=self.dynamic)
            factors = _factors(graph, groups, self, samples)
            smoothed = [group for group in groups if group.source in factors]
            for group in smoothed:
                apply_factors(graph, group, factors[group.source])
            result = compared(self.name, model, checked(self.name, model, finish(graph)), spool)
        added = sum(group.norm is None for group in smoothed)
        count = sum(len(group.layers) for group in smoothed)
        summary = f"smoothed the inputs of {count} linear layers, with {added} multiplications more"
        coverage = tuple(Coverage(subject=name, state="not smoothed", reason=reason) for name, reason in left.items())
        return PassResult(result, summary, coverage)


def _factors(
    graph: fx.GraphModule, groups: Sequence[Group], how: SmoothScales, samples: Sequence[Sequence[torch.Tensor]]
) -> dict[fx.Node, torch.Tensor]:
    """The factors of each tensor that is better read smoothed, in float32."""
    wanted = {group.source: group for group in groups}
    factors: dict[fx.Node, torch.Tensor] = {}

    def look(node: fx.Node, values: list[torch.Tensor]) -> list[torch.Tensor]:
        if group := wanted.get(node):
            best = _best_factors(group, values, how)
            if best is not None:
                factors[node] = best
        return values

    if wanted:
        run_side_by_side(graph, samples, look)
    return factors


def _best_factors(group: Group, inputs: Sequence[torch.Tensor], how: SmoothScales) -> torch.Tensor | None:
    """The best factors for one tensor; None where none makes enough of a difference."""
    import torch

    weight = torch.cat([layer.weight for layer in group.layers])
    flat = [value.reshape(-1, value.shape[-1]) for value in inputs]
    lows = torch.stack([value.amin(dim=0) for value in flat])
    highs = torch.stack([value.amax(dim=0) for value in flat])
    sizes = torch.maximum(highs, -lows).amax(dim=0)
    if not bool(sizes.isfinite().all()) or not bool((sizes > 0).any()) or not bool((weight != 0).any()):
        return None
    tried = [value[spread(len(value), ROWS)] for value in (flat[index] for index in spread(len(flat), COMPARED))]
    exact = [value @ weight.t() for value in tried]
    one = torch.ones_like(sizes)
    candidates = [one, *(_by_exponent(sizes, weight.abs().amax(dim=0), exponent) for exponent in EXPONENTS)]
    errors: list[float] = []
    for factors in candidates:
        low, high = (lows / factors).amin(dim=1), (highs / factors).amax(dim=1)
        if how.dynamic:
            chosen = spread(len(flat), COMPARED)
            ranges = [(float(low[index]), float(high[index])) for index in chosen]
        else:
            ranges = [(float(low.min()), float(high.max()))] * len(tried)
        errors.append(_error(tried, exact, ranges, factors, weight, how.grid))
    best = min(range(len(candidates)), key=errors.__getitem__)
    return candidates[best] if errors[best] < _WORTH * errors[0] else None


def _by_exponent(inputs: torch.Tensor, weights: torch.Tensor, exponent: float) -> torch.Tensor:
    """Equation 4; channels that are never used, or barely, are taken for small ones."""
    least = 1e-5
    inputs, weights = inputs.clamp(min=least * float(inputs.max())), weights.clamp(min=least * float(weights.max()))
    factors = inputs.double() ** exponent / weights.double() ** (1 - exponent)
    relative: torch.Tensor = (factors / factors.log().mean().exp()).to(inputs.dtype)
    return relative


def _error(
    inputs: Sequence[torch.Tensor],
    exact: Sequence[torch.Tensor],
    ranges: Sequence[tuple[float, float]],
    factors: torch.Tensor,
    weight: torch.Tensor,
    grid: WeightGrid,
) -> float:
    """Sum of squares of what rounding inputs to 8 bits, and weights to `grid`, changes."""
    from edgec.passes.weight_simulation import grid_scale, rounded

    scaled = weight * factors
    columns = rounded(scaled, grid_scale(scaled, grid), grid).t()
    total = 0.0
    for value, wanted, (low, high) in zip(inputs, exact, ranges, strict=True):
        low, high = min(low, 0.0), max(high, 0.0)
        step = (high - low) / 255 or 1.0
        zero = round(-low / step)
        codes = ((value / factors / step).round() + zero).clamp(0, 255)
        total += float((((codes - zero) * step) @ columns - wanted).square().sum())
    return total
