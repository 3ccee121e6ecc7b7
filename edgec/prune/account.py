"""What pruning did, for people and records."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import fx

from edgec.passes.coverage import Coverage
from edgec.prune.finetune import FineTuned, TrainingContext
from edgec.prune.goals import GOALS, NEAR
from edgec.prune.requests import PruneAnswer
from edgec.prune.structured import Removed
from edgec.prune.zeros import left_dense, sparsity_of
from edgec.target.spec import PruneSpec


@dataclass
class Account:
    """The steps of one pruning, as they come."""

    spec: PruneSpec
    share: float
    """Of the channels, to be removed in all."""
    removed: Removed | None = None
    """Of all steps together."""
    tuned: list[FineTuned] = field(default_factory=list)
    gone: float = 0.0
    """Share of the channels that was asked for so far."""

    @property
    def whole(self) -> dict[str, int]:
        """Channels of each layer before the first step; empty before it."""
        return {name: before for name, (before, _) in self.channels.items()}

    @property
    def channels(self) -> dict[str, tuple[int, int]]:
        """Channels of each layer before the first step and now; empty before it."""
        return self.removed.channels if self.removed else {}

    @property
    def changed(self) -> bool:
        """Whether any channel is gone."""
        return any(before != after for before, after in self.channels.values())

    def remove(self, step: Removed) -> None:
        """Take account of one more step."""
        if (earlier := self.removed) is not None:
            step = replace(
                step,
                channels={name: (self.whole[name], after) for name, (_, after) in step.channels.items()},
                macs=(earlier.macs[0], step.macs[1]),
                parameters=(earlier.parameters[0], step.parameters[1]),
            )
        self.removed = step

    def answer(self, graph: fx.GraphModule, context: TrainingContext | None) -> PruneAnswer:
        """What to report of the pruned graph."""
        zeros = sparsity_of(graph)
        return PruneAnswer(
            summary="; ".join([*self._costs(), *self._zeros(zeros), self._training(context)]),
            coverage=tuple(self._coverage(graph, context)),
            channels=self.channels,
            macs=self.removed.macs if self.removed else None,
            parameters=self.removed.parameters if self.removed else None,
            share=self.share,
            sparsity=zeros,
            epochs=tuple(tuple(one.epochs) for one in self.tuned),
        )

    def _costs(self) -> list[str]:
        if self.removed is None:
            return []
        macs, parameters, channels = self.removed.macs, self.removed.parameters, self.channels.values()
        total = sum(before for before, _ in channels)
        removed = 1 - sum(after for _, after in channels) / total if total else 0.0
        return [
            f"{removed:.0%} of the channels removed, {self._asked()}",
            f"{macs[0] / 1e6:.2f} -> {macs[1] / 1e6:.2f} MMAC",
            f"{parameters[0] / 1e3:.1f} -> {parameters[1] / 1e3:.1f} k parameters",
        ]

    def _asked(self) -> str:
        if self.spec.goal == "channels":
            return f"{self.share:.0%} asked"
        return f"{self.share:.0%} asked for {self.spec.amount:.0%} less {GOALS[self.spec.goal]}"

    def _unreached(self) -> list[Coverage]:
        """Whether multiply-accumulates or parameters are far from what was asked; latency has a report of its own."""
        spec = self.spec
        if not spec.amount or spec.goal not in ("macs", "size"):
            return []
        left = 1.0  # where no share is any use, nothing is removed
        if self.removed is not None:
            before, after = self.removed.macs if spec.goal == "macs" else self.removed.parameters
            left = after / before if before else 1.0
        if abs(left - (1 - spec.amount)) <= NEAR:
            return []
        reason = f"{left:.2f} of the unpruned model's {GOALS[spec.goal]} are left, {1 - spec.amount:.2f} asked"
        return [Coverage(subject="prune.goal", state="not reached", reason=reason)]

    def _zeros(self, zeros: float) -> list[str]:
        return [f"{zeros:.0%} of the weights are zero ({self.spec.pattern})"] if self.spec.sparsity else []

    def _training(self, context: TrainingContext | None) -> str:
        if not self.tuned:
            return "not fine-tuned"
        last = self.tuned[-1]
        if last.failed:
            return "fine-tuning failed"
        times = f"{len(self.tuned)} times " if len(self.tuned) > 1 else ""
        samples = f" on {len(context.samples)} samples" if context else ""
        return (
            f"fine-tuned {times}for {len(last.epochs)} epochs{samples}: "
            f"loss {last.before.loss:.4g} -> {last.after.loss:.4g}, "
            f"{last.metric} {last.before.metric:.2f} -> {last.after.metric:.2f}"
        )

    def _coverage(self, graph: fx.GraphModule, context: TrainingContext | None) -> list[Coverage]:
        coverage = self._unreached()
        if self.removed is not None:
            pruned = {name for name, (before, after) in self.channels.items() if before != after}
            coverage += [item for item in self.removed.coverage if item.subject not in pruned]
        if self.spec.sparsity:
            reason = "edgec's artifacts store zeros like other weights, so they help only once a file is compressed"
            coverage.append(Coverage(subject="zeros", state="no faster", reason=reason))
            coverage += left_dense(graph, self.spec.pattern)
        if context is None:
            reason = "the project names no training data, and [prune] without_training allows it"
            coverage.append(Coverage(subject="model", state="not fine-tuned", reason=reason))
        elif context.spec.function:
            reason = "fine-tuning after pruning is edgec's own; the function trains for a grid only"
            coverage.append(Coverage(subject=context.spec.function, state="not used", reason=reason))
        coverage += [
            Coverage(subject=f"step {number} of {len(self.tuned)}", state="not fine-tuned", reason=one.failed)
            for number, one in enumerate(self.tuned, start=1)
            if one.failed
        ]
        return coverage
