"""Training that makes up for what pruning has taken."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgec.model.outputs import tensors_of
from edgec.passes.weight_layers import spread
from edgec.project.load import split_entry
from edgec.project.spec import TrainSpec
from edgec.prune.importance import Losses
from edgec.prune.zeros import apply_masks
from edgec.target.spec import PruneSpec
from edgec.train.checkpoint import Checkpoint
from edgec.train.loop import Learner, Loop, Schedule, Score, Teacher, enough_epochs
from edgec.train.losses import Loss, Tensors, scores_of
from edgec.train.samples import Samples

LEARNING_RATES = (0.02, 0.002)
"""Parts of a tensor's root mean square that a step of Adam moves it by; the second is taken where the first fails."""
EPOCHS, STEPS = 8, 1000
"""Epochs at least, and steps at least: small data is gone through more often."""
FEWEST = 8
"""Samples in a batch whose statistics are worth normalizing with."""
SCORED_BATCHED, SCORED_ALONE = 2048, 256
"""Training samples that importances are computed from: of batches, and of single samples."""


@dataclass(frozen=True)
class TrainingContext:
    """What fine-tuning of a pruned model uses: teacher, samples, loss, settings and seed."""

    teacher: Teacher
    """The float model before pruning."""
    samples: Samples
    loss: Loss
    spec: TrainSpec
    seed: int


@dataclass(frozen=True)
class FineTuned:
    """What training made of a pruned graph."""

    graph: fx.GraphModule
    """In eval mode, without gradients."""
    before: Score
    after: Score
    metric: str
    """What `Score.metric` is."""
    epochs: tuple[dict[str, Any], ...]
    """Records of `edgec.train.loop.Loop.run`."""
    failed: str
    """Why the graph is as it was before ("" if it is not)."""


class PrunedModel(Learner):
    """A pruned graph in training: everything learns but what is masked.

    BatchNorm normalizes with the statistics of the batch, and keeps them, where a batch has `FEWEST` samples; with
    less it stays as in inference. Everything else is always as in inference.

    Args:
        graph: left untouched.
        masks: by parameter name, true where a weight may be other than zero.
    """

    def __init__(self, graph: fx.GraphModule, masks: Mapping[str, torch.Tensor]) -> None:
        super().__init__(graph)
        self._masks = masks
        self._norms = [
            module
            for module in self.graph.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None
        ]

    @contextlib.contextmanager
    def step(self, done: float, samples: int) -> Iterator[None]:
        """One training step, after which masked weights are zero again."""
        for norm in self._norms:
            norm.train(samples >= FEWEST)
        try:
            yield
        finally:
            for norm in self._norms:
                norm.eval()
        apply_masks(self.graph, self._masks)

    @torch.no_grad()
    def into(self, graph: fx.GraphModule) -> fx.GraphModule:
        """Copy what was learnt into `graph`, a copy of the one that this was made of."""
        graph.load_state_dict(self.graph.state_dict())
        return graph


def fine_tune(
    graph: fx.GraphModule,
    masks: Mapping[str, torch.Tensor],
    context: TrainingContext,
    spec: PruneSpec,
    checkpoint: Callable[[float], Checkpoint],
    progress: Callable[[str], None],
) -> FineTuned:
    """Train a pruned graph; where that makes it worse, try a smaller rate, and in the end leave it as it is.

    Args:
        graph: left untouched.
        masks: of weights, true where they may be other than zero.
        context: teacher, samples and loss.
        spec: epochs and learning rate.
        checkpoint: where training at a rate leaves what it has reached.
        progress: called with each epoch.
    """
    samples, batch_size = context.samples, context.spec.batch_size
    epochs = spec.epochs or enough_epochs(len(samples), batch_size, EPOCHS, STEPS)
    rates = (spec.learning_rate,) if spec.learning_rate else LEARNING_RATES
    failed: list[str] = []
    for rate in rates:
        model = PrunedModel(graph, masks)
        loop = Loop(model, context.teacher, samples, Schedule(epochs, batch_size, rate, context.seed))
        before = loop.judge(context.loss)
        records, stopped = loop.run(context.loss, checkpoint(rate), progress)
        after = before if stopped else loop.judge(context.loss)
        if not stopped and after.loss <= before.loss:
            tuned = model.into(copy.deepcopy(graph)).eval()
            return FineTuned(tuned, before, after, loop.metric_name, tuple(records), "")
        worse = f"the loss on the training data became worse ({before.loss:.4g} -> {after.loss:.4g})"
        failed.append(f"at learning rate {rate:g} {stopped or worse}")
    return FineTuned(graph, before, before, loop.metric_name, (), "; ".join(failed))


def importance_losses(context: TrainingContext, importance: str) -> Losses:
    """The losses that ``taylor`` (of batches) and ``hessian`` (of single samples) importance differentiate.

    With labels that is the loss of training. Without them the model is its own teacher, and any distance from itself
    has no gradient; its second derivative is the square of the outputs' own derivative, whose diagonal is the mean
    square of the derivative of sums with random signs (Hutchinson 1989): these sums are differentiated.
    """
    alone = importance == "hessian" or not context.teacher.batched
    indices = spread(len(context.samples), SCORED_ALONE if alone else SCORED_BATCHED)
    distilled = _only_distilled(context)

    def losses(module: nn.Module) -> Iterator[torch.Tensor]:
        signs = torch.Generator().manual_seed(context.seed)
        for chunk in context.teacher.chunks(indices, 1 if alone else context.spec.batch_size):
            inputs, labels = context.samples.batch(chunk)
            outputs = tensors_of(module(*[item.clone() for item in inputs]))
            if distilled:
                yield _signed_sum(outputs, signs)
            else:
                yield context.loss(outputs, context.teacher(inputs), labels)

    return losses


def _only_distilled(context: TrainingContext) -> bool:
    if split_entry(context.spec.loss):
        return False
    scores = scores_of(context.teacher(context.samples[0][0]))
    return context.spec.loss == "distill" or scores == "none" or not context.samples.has_classes


def _signed_sum(outputs: Tensors, signs: torch.Generator) -> torch.Tensor:
    """Of all float outputs, each in parts of its own size."""
    terms = []
    for item in outputs:
        if item.is_floating_point():
            size = item.detach().norm().clamp(min=1e-12)
            random = torch.randint(0, 2, item.shape, generator=signs).to(item.dtype) * 2 - 1
            terms.append((item * random).sum() / size)
    return torch.stack(terms).sum()
