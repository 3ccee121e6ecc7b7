"""Cross-layer equalization: channels of unequal range share their scales with the layer that reads them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.dataset.spool import Spool
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel, TensorSpec
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import add_module, checked, finish, input_shapes, own_graph
from edgec.passes.weight_layers import (
    CorrectionPass,
    compared,
    quiet_torch,
    run_graph,
    sample_of,
    spread,
    weight_layers,
)

if TYPE_CHECKING:
    import torch
    from torch import fx

    from edgec.passes.equalization_pairs import Pair

SAMPLES = 32
"""Calibration samples that ranges are taken from, where no clamp asks for all of them."""
SWEEPS = 40
_SETTLED = 1e-3
"""Largest change of a factor's logarithm in the last sweep."""
_WIDEST = 2.0**16
"""Bound of all factors and their inverses."""
_MARGIN = 0.9
"""Share of a clamp's limit that calibration samples may reach, so that other samples stay below it."""
_MOVED = 0.01
"""Logarithm (base 2) of a factor below which it is not worth a clamp."""


@dataclass(frozen=True)
class EqualizeCrossLayer(CorrectionPass):
    """Divide output channel i of a layer by s_i, and multiply input channel i of the next by it.

    ``s_i = sqrt(r1_i r2_i) / r2_i`` makes the ranges of both layers' weights equal, channel by channel (Nagel et al.
    2019, https://arxiv.org/abs/1906.04721, section 4.1, equation 11), swept over all pairs until nothing moves. Exact
    between layers joined by positively homogeneous ops. Factors are relative: their geometric mean is 1.

    Two things keep the activations in check, where calibration samples are there. A channel's activations may not
    outgrow what is the tensor's largest one (as those of a dead channel with a bias would, see section 4.1.3). And
    ReLU6 becomes ReLU where none of all calibration samples comes near its limit; where one does, or where the factors
    are 1, the clamp stays and the pair is left alone.
    """

    name: ClassVar[str] = "equalize-cross-layer"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Scale all pairs; the outputs are compared with those before."""
        return equalize(model, ctx.calibration, ctx.threads)


def equalize(model: FloatModel, calibration: Spool | None, threads: int) -> PassResult[FloatModel]:
    """Apply `EqualizeCrossLayer`.

    Args:
        model: must have a graph; left untouched.
        calibration: samples that keep the activations in check.
        threads: CPU threads.

    Raises:
        PassError: the outputs are not those before.
    """
    from edgec.passes.equalization_pairs import find_pairs, scale_inputs, scale_outputs

    graph = own_graph(model)
    with quiet_torch(threads):
        shapes = input_shapes(graph, sample_tensors(model.inputs, seed=0))
        pairs = find_pairs(graph, weight_layers(graph)[0], shapes)
        seen = _observe(graph, pairs, model.inputs, calibration)
        pairs, refused = _without_reached_limits(graph, pairs, seen)
        factors = [_worth_a_clamp(pair, factor) for pair, factor in zip(pairs, _factors(pairs, seen), strict=True)]
        moves = [bool((factor.log2().abs() > _MOVED).any()) for factor in factors]
        moving = [pair for pair, moved in zip(pairs, moves, strict=True) if moved]
        coverage = (*refused, *_remove_clamps(graph, moving, seen))
        # a made-up sample may reach a limit that calibration samples do not: it proves the factors alone
        unclamped = replace(model, graph=finish(copy.deepcopy(graph)))
        for pair, factor in zip(pairs, factors, strict=True):
            scale = factor.to(pair.first.module.weight.dtype)
            scale_outputs(pair.first.module, 1 / scale)
            scale_inputs(pair.second.module, scale, pair.repeat)
        scaled = checked(EqualizeCrossLayer.name, unclamped, finish(graph))
        result = compared(EqualizeCrossLayer.name, model, scaled, calibration)
    return PassResult(result, f"equalized {sum(moves)} of {len(pairs)} pairs of layers", coverage)


@dataclass
class _Seen:
    """Peaks and ranges on calibration samples."""

    ranges: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    """Largest magnitude of each channel of the tensors that pairs' second layers read."""
    peaks: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    """Largest input of clamps; NaN where one was."""
    samples: int = 0
    """Number of calibration samples that were run."""


def _observe(graph: fx.GraphModule, pairs: Sequence[Pair], inputs: Sequence[TensorSpec], spool: Spool | None) -> _Seen:
    import torch

    observed = _Seen()
    if spool is None or not pairs:
        return observed
    between = {pair.between: pair for pair in pairs}
    clamps = {clamp for pair in pairs for clamp in pair.clamps}

    def seen(node: fx.Node, source: Any, result: Any) -> None:
        if node in clamps:
            peak = source.amax()
            observed.peaks[node] = torch.maximum(observed.peaks.get(node, peak), peak)
        if pair := between.get(node):
            channels = result.movedim(pair.axis, 0).reshape(result.shape[pair.axis], -1).abs().amax(dim=1)
            channels = channels.reshape(-1, pair.repeat).amax(dim=1).double()
            observed.ranges[node] = torch.maximum(observed.ranges.get(node, channels), channels)

    # taking a clamp away changes what the model computes for each input that reaches it: no sample may be left out
    for index in range(len(spool)) if clamps else spread(len(spool), SAMPLES):
        run_graph(graph, sample_of(spool, inputs, index), seen)
        observed.samples += 1
    return observed


def _without_reached_limits(
    graph: fx.GraphModule, pairs: Sequence[Pair], seen: _Seen
) -> tuple[list[Pair], tuple[Coverage, ...]]:
    """The pairs that can be scaled when clamps between them are taken away."""
    kept: list[Pair] = []
    coverage: list[Coverage] = []
    for pair in pairs:
        # a NaN compares as false: it counts as having reached the limit
        reached = [
            clamp
            for clamp, limit in _limits(graph, pair).items()
            if clamp not in seen.peaks or not bool(seen.peaks[clamp] <= _MARGIN * limit)
        ]
        if reached:
            why = "has no calibration samples to judge it by" if reached[0] not in seen.peaks else "is reached"
            reason = f"the upper limit of {reached[0].target} {why}: scaled channels would be clamped elsewhere"
            subject = f"{pair.first.name} - {pair.second.name}"
            coverage.append(Coverage(subject=subject, state="not equalized", reason=reason))
            continue
        kept.append(pair)
    return kept, tuple(coverage)


def _worth_a_clamp(pair: Pair, factor: torch.Tensor) -> torch.Tensor:
    """1 for a pair that would lose a clamp and gain nothing."""
    import torch

    return torch.ones_like(factor) if pair.clamps and not (factor.log2().abs() > _MOVED).any() else factor


def _remove_clamps(graph: fx.GraphModule, pairs: Sequence[Pair], seen: _Seen) -> list[Coverage]:
    """Make ReLUs of the clamps between `pairs`, in place."""
    from torch import nn

    coverage = []
    for pair in pairs:
        for clamp, limit in _limits(graph, pair).items():
            reason = (
                f"none of the {seen.samples} calibration samples comes near its limit {limit:g} "
                f"(the largest is {seen.peaks[clamp]:.3g})"
            )
            coverage.append(Coverage(subject=str(clamp.target), state="ReLU", reason=reason))
            clamp.target = add_module(graph, f"{str(clamp.target).replace('.', '_')}_unclamped", nn.ReLU())
    return coverage


def _limits(graph: fx.GraphModule, pair: Pair) -> dict[fx.Node, float]:
    from edgec.passes.equalization_pairs import clamp_limit

    return {clamp: clamp_limit(clamp, graph) or 0.0 for clamp in pair.clamps}


def _factors(pairs: Sequence[Pair], seen: _Seen) -> list[torch.Tensor]:
    """The factors s of each pair's channels, in float64."""
    import torch

    from edgec.passes.equalization_pairs import magnitudes

    layers = {layer.name: layer.module for pair in pairs for layer in (pair.first, pair.second)}
    sizes = {name: magnitudes(module) for name, module in layers.items()}
    factors = []
    for pair in pairs:
        first = sizes[pair.first.name]
        factors.append(torch.ones(first.shape[0] * first.shape[1], dtype=torch.float64))
    for _ in range(SWEEPS):
        change = 0.0
        for place, pair in enumerate(pairs):
            first, second = sizes[pair.first.name], sizes[pair.second.name]
            ours = first.amax(dim=2).reshape(-1)
            theirs = second.amax(dim=1).reshape(-1, pair.repeat).amax(dim=1)
            wanted = _bounded(factors[place], ours, theirs, seen.ranges.get(pair.between))
            step = wanted / factors[place]
            first /= step.reshape(first.shape[0], -1, 1)
            second *= step.repeat_interleave(pair.repeat).reshape(second.shape[0], 1, -1)
            factors[place] = wanted
            change = max(change, float(step.log().abs().max()))
        if change < _SETTLED:
            break
    return factors


def _bounded(
    current: torch.Tensor, ours: torch.Tensor, theirs: torch.Tensor, activations: torch.Tensor | None
) -> torch.Tensor:
    """The next factors of one pair: 1 for dead channels, and none that lets an activation outgrow its tensor."""
    import torch

    ratio = (ours / theirs).sqrt()
    live = (ours > 0) & (theirs > 0) & ratio.isfinite()
    if not live.any():
        return current
    wanted = torch.where(live, current * ratio, current)
    wanted = torch.where(live, wanted / wanted[live].log().mean().exp(), wanted).clamp(1 / _WIDEST, _WIDEST)
    if activations is not None and 0 < float(activations.max()) < float("inf"):
        wanted = torch.where(live, torch.maximum(wanted, activations / activations.max()), wanted)
    return wanted
