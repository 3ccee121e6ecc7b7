"""Removing whole channels from a float model."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn

from edgec.errors import PassError
from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import finish
from edgec.prune.choose import Scored, choose, fitting
from edgec.prune.cost import count_macs, count_parameters
from edgec.prune.dependencies import ChannelGroup, Dependencies, Kept
from edgec.prune.importance import Losses, accumulate_gradients, scorer
from edgec.prune.same_function import difference
from edgec.prune.whole import keep_outputs, leave_alone, prunable_layers

TOGETHER = "its channels can only go all together"

Choice = dict[str, tuple[int, ...]]
"""Channels to remove, by the root of their group."""


@dataclass(frozen=True)
class Removed:
    """A pruned graph, and what pruning changed; pairs are before and after."""

    graph: fx.GraphModule
    """In eval mode, without gradients."""
    channels: dict[str, tuple[int, int]]
    """Output channels of every convolution and linear layer."""
    macs: tuple[int, int]
    """Multiply-accumulates of one inference."""
    parameters: tuple[int, int]
    """Elements of all parameters."""
    coverage: tuple[Coverage, ...]
    """Layers that kept all their channels, and why."""
    stuck: str
    """Why no layer at all can lose channels, however many are asked for; "" where one can."""


def remove_channels(
    graph: fx.GraphModule,
    example: Sequence[torch.Tensor],
    *,
    share: float,
    importance: str = "l1",
    scope: str = "layer",
    round_to: int = 8,
    ignore: Sequence[str] = (),
    whole: Mapping[str, int] | None = None,
    backward: Losses | None = None,
) -> Removed:
    """Remove the channels that matter least, with all that depends on them.

    torch-pruning does the surgery; the result is then held against the whole graph with these channels left out.
    Layers for which that does not agree (a shape written as a number in forward(), a softmax over channels) keep all
    their channels, and are recorded.

    Args:
        graph: after plain modules were made of its ops, before BatchNorm is folded; left untouched.
        example: one sample's inputs, in call order.
        share: of the channels to remove, 0 to 0.95: of each group of layers (scope ``layer``) or of all that can lose
            any (scope ``global``). 0 removes none.
        importance: of `edgec.target.spec.Importance`.
        scope: ``layer`` or ``global``.
        round_to: what a layer keeps is the multiple of it (of what is `edgec.prune.choose.fitting`) nearest to what
            was asked, at least one.
        ignore: names or globs of layers that keep their output channels; the name of a block means all layers in it.
        whole: channels of each layer before the steps that came earlier: of these scope ``layer`` takes its share.
        backward: from the module (a copy of `graph`) to losses to be differentiated: of batches for ``taylor``, of
            single samples (scalars, or a vector of them) for ``hessian``; not needed for the others.

    Raises:
        PassError: no layer at all can lose its channels without changing the function, or `backward` is missing.
        TargetError: a pattern of `ignore` matches no layer.
    """
    study = _Study(graph, example, importance, ignore, backward)
    spoiled: dict[str, str] = {}
    while True:
        groups = [group for group in study.groups if group.root not in spoiled]
        trial = study.apply(choose([study.scored[group.root] for group in groups], share, scope, round_to, whole))
        if isinstance(trial, set):
            tied = "other layers would be left without any channel"
            spoiled |= {root: tied for root in sorted(trial) if not study.couple(root)}
            continue
        wrong = study.compare(trial)
        if wrong is None:
            break
        spoiled |= study.spoilers(trial.choice, wrong)
        if len(spoiled) == len(study.groups):
            raise PassError(
                f"the channels of this model cannot be removed: {next(iter(spoiled.values()))}",
                where="prune",
                hint="a shape written as a number in forward() ties a layer to its size: flatten or use -1",
            )
    after = trial.graph
    for value in after.parameters():
        value.requires_grad_(False)
        value.grad = None
    finish(after)
    left = prunable_layers(after)
    channels = {name: (_channels(layer), _channels(left[name])) for name, layer in prunable_layers(graph).items()}
    return Removed(
        after,
        channels,
        (count_macs(graph, example), count_macs(after, example)),
        (count_parameters(graph), count_parameters(after)),
        _coverage(study, spoiled, channels, share, round_to, whole or {}),
        _stuck(study, spoiled),
    )


@dataclass(frozen=True)
class _Trial:
    choice: Choice
    graph: fx.GraphModule
    kept: dict[str, Kept]


class _Study:
    """What there is to prune in a graph, with scores; trials are made on copies of it."""

    def __init__(
        self,
        graph: fx.GraphModule,
        example: Sequence[torch.Tensor],
        importance: str,
        ignore: Sequence[str],
        backward: Losses | None,
    ) -> None:
        self._whole, self._example = graph, example
        copied = copy.deepcopy(graph).eval()
        outputs, alone = keep_outputs(copied, ignore), leave_alone(copied)
        self._dependencies_of_copy = self._dependencies(copied)
        accumulate_gradients(copied, importance, backward)
        score = scorer(importance)
        self.groups: list[ChannelGroup] = []
        self.scored: dict[str, Scored] = {}
        self.reasons = {name: alone[layer] for name, layer in prunable_layers(copied).items() if layer in alone}
        """Why a layer keeps its channels."""
        self._scores: dict[str, list[float]] = {}
        for members, group, reason in self._dependencies_of_copy.groups(outputs, alone):
            scores = None if reason else score(members)
            if scores is None:
                none = "the importance of its channels is not known"
                reason = reason or ("no BatchNorm scales its channels" if importance == "bn-scale" else none)
                self.reasons |= dict.fromkeys(group.layers, reason)
                continue
            self._scores[group.root] = scores.tolist()
            self._add(group)

    def couple(self, root: str) -> bool:
        """Take note of the channels of a group that go in pairs or more; whether that is any news."""
        old = next(group for group in self.groups if group.root == root)
        new = self._dependencies_of_copy.coupled(old)
        self.groups.remove(old)
        self._add(new)
        return new.units != old.units

    def _add(self, group: ChannelGroup) -> None:
        scores = self._scores[group.root]
        means = tuple(sum(scores[index] for index in unit) / len(unit) for unit in group.units)
        self.groups.append(group)
        self.scored[group.root] = Scored(group.root, group.channels, group.units, means)

    def apply(self, choice: Choice) -> _Trial | set[str]:
        """Remove the chosen channels from a copy; or the roots of groups that would lose others with them."""
        copied = copy.deepcopy(self._whole).eval()
        coupled: set[str] = set()
        kept: dict[nn.Module, Kept] = {}
        if choice:
            dependencies = self._dependencies(copied)
            coupled = {root for root, channels in choice.items() if not dependencies.remove(root, channels, kept)}
        names = {module: name for name, module in copied.named_modules()}
        return coupled or _Trial(choice, copied, {names[module]: left for module, left in kept.items()})

    def compare(self, trial: _Trial) -> str | None:
        """What is wrong with a trial, or None."""
        return difference(self._whole, trial.graph, trial.kept, self._example)

    def spoilers(self, choice: Choice, wrong: str) -> dict[str, str]:
        """The groups of a choice that cannot lose these channels, by halving; each with what is wrong then."""
        roots = list(choice)
        if len(roots) == 1:
            return {roots[0]: wrong}
        wrong_roots: dict[str, str] = {}
        for half in (roots[: len(roots) // 2], roots[len(roots) // 2 :]):
            part = {root: choice[root] for root in half}
            trial = self.apply(part)
            problem = self.compare(trial) if isinstance(trial, _Trial) else wrong
            if problem is not None:
                wrong_roots |= self.spoilers(part, problem)
        return wrong_roots or dict.fromkeys(roots, wrong)  # only together are they wrong

    def _dependencies(self, graph: fx.GraphModule) -> Dependencies:
        try:
            return Dependencies(graph, self._example)
        except Exception as exc:
            raise PassError(
                f"torch-pruning cannot find what depends on what: {(str(exc).strip() or repr(exc)).splitlines()[0]}",
                where="prune",
                hint="prune.amount = 0 builds the model as it is",
            ) from exc


def _stuck(study: _Study, spoiled: dict[str, str]) -> str:
    """See `Removed.stuck`."""
    reasons = dict(study.reasons)
    for group in study.groups:
        if group.root not in spoiled and len(group.units) > 1:
            return ""
        reasons[group.root] = spoiled.get(group.root, TOGETHER)
    return "; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:3]) or "it has none that could"


def _coverage(
    study: _Study,
    spoiled: dict[str, str],
    channels: dict[str, tuple[int, int]],
    share: float,
    round_to: int,
    whole: Mapping[str, int],
) -> tuple[Coverage, ...]:
    if not channels:
        return (Coverage(subject="model", state="not pruned", reason="it has no layer that can be"),)
    reasons = dict(study.reasons)
    for group in study.groups:
        multiple = fitting(round_to, whole.get(group.root, study.scored[group.root].channels))
        few = f"no multiple of {multiple} channels is nearer to {1 - share:.0%} of them"
        few = few if len(group.units) > 1 else TOGETHER
        reasons |= dict.fromkeys(group.layers, spoiled.get(group.root, few))
    unknown = "torch-pruning does not reach it"
    return tuple(
        Coverage(subject=name, state="not pruned", reason=reasons.get(name, unknown))
        for name, (before, after) in channels.items()
        if share > 0 and before == after
    )


def _channels(layer: nn.Module) -> int:
    return int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))
