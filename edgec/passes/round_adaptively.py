"""AdaRound: each weight is rounded up or down so that the layer's outputs keep their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.spec import FloatModel, TensorSpec
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.correct_bias import correct_biases, rounded_weights
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import finish, own_graph
from edgec.passes.weight_layers import (
    SampledPass,
    WeightLayer,
    in_groups,
    is_transposed,
    quiet_torch,
    run_graph,
    sample_of,
    spread,
    weight_layers,
)
from edgec.quant.recipe import WeightGrid

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.passes.rounding_statistics import RoundingStatistics

MAX_WIDTH = 6144
"""Weights of one output channel beyond which the Gram matrix (150 MB here) is not made."""
_PATCHES, _HELD_OUT = 16384, 256
"""Patches of a layer, over all samples, that choose the rounding and that judge it."""
_MEMORY = 24_000_000
"""Numbers that the statistics of layers observed in one run of the samples may take."""
_KEEP_EVERY = 4
"""Each fourth sample judges what the others have chosen."""


@dataclass(frozen=True)
class RoundAdaptively(SampledPass):
    """Place weights on the backend's grid, each up or down as the layer's outputs want it.

    Nagel et al. 2020, https://arxiv.org/abs/2004.10568, with the layer-wise loss: from the inputs that it has in the
    float model, each layer is to give the outputs it gives there. Weights become ``scale * code``; the largest of each
    channel stays as it is, so that a backend finds the same scale again, and the same codes.

    What remains of a mean error goes into the biases (see `CorrectBias`, which is not to be run too).
    """

    grid: WeightGrid
    steps: int = 120
    samples: int = 64
    correct_bias: bool = True
    float_layers: tuple[str, ...] = ()
    """Layers that the backend will keep in float."""

    name: ClassVar[str] = "round-adaptively"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Round group after group of layers, each on what the float layers before it give."""
        samples = ctx.samples(self.name)
        reference, graph = own_graph(model), own_graph(model)
        with quiet_torch(ctx.threads):
            layers, coverage = weight_layers(graph, self.float_layers)
            refused = tuple(_refusals(layers))
            subjects = {item.subject for item in refused}
            rounding = [layer for layer in layers if layer.name not in subjects]
            gains = self._round(reference, rounding, model.inputs, ctx)
            if self.correct_bias:
                weights = rounded_weights(layers, self.grid)[0]
                arguments = (weights, model.inputs, samples, self.float_layers)
                refused += correct_biases(graph, reference, *arguments)
        better = [gain for gain in gains if gain > 0]
        mean = sum(gains) / len(gains) if gains else 0.0
        summary = f"rounded {len(better)} of {len(layers)} layers better than to nearest, by {mean:.1f} dB in the mean"
        return PassResult(model.with_graph(finish(graph), same_function=False), summary, (*coverage, *refused))

    def _round(
        self, reference: fx.GraphModule, layers: Sequence[WeightLayer], inputs: Sequence[TensorSpec], ctx: PassContext
    ) -> list[float]:
        """Round `layers` in place; the gain of each over rounding to nearest, in dB."""
        from edgec.passes.rounding_statistics import RoundingStatistics

        samples = ctx.samples(self.name)
        chosen = spread(len(samples), self.samples)
        originals = {layer.name: layer for layer in weight_layers(reference, self.float_layers)[0]}
        apart = len(chosen) >= 2 * _KEEP_EVERY
        judging = len(chosen) // _KEEP_EVERY if apart else len(chosen)
        gains: list[float] = []
        for group in in_groups(layers, _memory, _MEMORY):
            statistics = {
                layer.name: RoundingStatistics(
                    layer.module,
                    patches=max(1, math.ceil(_PATCHES / len(chosen) / len(layer.nodes))),
                    held_out=max(1, _HELD_OUT // judging // len(layer.nodes)),
                    seed=ctx.seed + len(gains) + place,
                )
                for place, layer in enumerate(group)
            }
            by_node = {node: statistics[layer.name] for layer in group for node in originals[layer.name].nodes}
            last = originals[group[-1].name].nodes[-1]
            for row, index in enumerate(chosen):
                keep = row % _KEEP_EVERY == _KEEP_EVERY - 1 if apart else None

                def seen(node: fx.Node, source: Any, result: Any, keep: bool | None = keep) -> None:
                    if data := by_node.get(node):  # noqa: B023
                        data.add(source, result, keep=keep)

                run_graph(reference, sample_of(samples, inputs, index), seen, last)
            gains += [self._round_layer(layer, statistics.pop(layer.name)) for layer in group]
        return gains

    def _round_layer(self, layer: WeightLayer, data: RoundingStatistics) -> float:
        import torch
        from torch import nn

        from edgec.passes.rounding_optimizer import round_by_gradient
        from edgec.passes.weight_simulation import grid_scale

        module: Any = layer.module
        weight = module.weight.detach()
        rows = weight.flatten(1).float()
        grouped = rows.reshape(data.groups, -1, data.width)
        scale = grid_scale(rows, self.grid).reshape(data.groups, -1, 1)
        limit = math.floor(self.grid.limit)
        largest = grouped.abs() >= scale * self.grid.limit * (1 - 1e-6)
        codes = (grouped / scale).round().clamp(-limit, limit)
        gram, gain = data.gram(centred=self.correct_bias), 0.0
        if gram.isfinite().all():
            fixed = largest | (grouped == 0)
            rounded = round_by_gradient(grouped, scale, fixed, limit, _regularized(gram, data.count), self.steps)
            before, after = (data.loss(item * scale - grouped, centred=self.correct_bias) for item in (codes, rounded))
            if after < before:
                codes, gain = rounded, 10 * math.log10(before / max(after, 1e-30))
        # the largest weight itself, not its code times the scale, so that the scale is found again to the last bit
        placed = torch.where(largest, grouped, codes * scale)
        module.weight = nn.Parameter(placed.reshape(weight.shape).to(weight.dtype))
        return gain


def _regularized(gram: torch.Tensor, count: int) -> torch.Tensor:
    """A price on moving away from the float weights, for directions that few patches leave unseen."""
    import torch

    width = gram.shape[-1]
    power = gram.diagonal(dim1=1, dim2=2).mean(dim=1).reshape(-1, 1, 1)
    return gram + power * (0.01 + min(1.0, width / max(count, 1))) * torch.eye(width)


def _refusals(layers: Sequence[WeightLayer]) -> Sequence[Coverage]:
    refusals = []
    for layer in layers:
        width = layer.module.weight[0].numel()
        if is_transposed(layer.module):
            reason = "adaptive rounding does not take transposed convolutions, which some backends leave in float"
        elif width > MAX_WIDTH:
            reason = f"{width} weights an output channel: their Gram matrix is too large (at most {MAX_WIDTH})"
        else:
            continue
        refusals.append(Coverage(subject=layer.name, state="rounded to nearest", reason=reason))
    return refusals


def _memory(layer: WeightLayer) -> int:
    width: int = layer.module.weight[0].numel()
    groups: int = getattr(layer.module, "groups", 1)
    return groups * width * (width + _HELD_OUT)
