"""The training loop, whatever is trained."""

from __future__ import annotations

import contextlib
import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import fx, nn

from edgec.dataset.entry import python_entry
from edgec.errors import ProjectError
from edgec.model.outputs import tensors_of
from edgec.passes.weight_layers import spread
from edgec.project.load import split_entry
from edgec.project.spec import TrainSpec
from edgec.train.checkpoint import Checkpoint
from edgec.train.losses import Loss, Scores, choose_loss, metric_of, scores_of, user_loss
from edgec.train.samples import Inputs, Samples, shuffled

SMALLEST_SIZE = 0.01
"""Of a tensor: biases may begin at zero."""
JUDGED = 2048
"""Training samples, evenly spread, on which the begin and the end are compared."""


def keep_values(module: nn.Module) -> None:
    """Let no part of `module` work in place: gradients need the values that it would write over."""
    for part in module.modules():
        if hasattr(part, "inplace"):
            vars(part)["inplace"] = False


class Learner(nn.Module):
    """What the loop trains: a copy of a float model's graph, which is as in inference whatever mode is asked for.

    Parameters that require a gradient are trained: at first all floats.

    Args:
        graph: left untouched.
    """

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__()
        self.graph = copy.deepcopy(graph)
        keep_values(self.graph)
        for value in self.graph.parameters():
            value.requires_grad_(value.is_floating_point())
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Nothing to do: see the class."""
        return super().train(False)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the float model returns."""
        return self.graph(*inputs)

    def step(self, done: float, samples: int) -> AbstractContextManager[None]:
        """What holds during one step, from the forward pass to the new weights.

        Args:
            done: share of the training that is behind, 0 to 1.
            samples: that go through the model at once.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Score:
    """How a model does on training samples."""

    loss: float
    metric: float
    """Top-1 or agreement with the float model in percent; SQNR in dB where the model gives no class scores."""


@dataclass(frozen=True)
class Teacher:
    """The float model, and whether it (and so the model in training) takes batches."""

    graph: fx.GraphModule
    batched: bool

    @torch.no_grad()
    def __call__(self, inputs: Inputs) -> list[torch.Tensor]:
        return tensors_of(self.graph(*[item.clone() for item in inputs]))

    def chunks(self, indices: Sequence[int], batch_size: int) -> Iterator[list[int]]:
        """Samples that go through the model at once."""
        size = batch_size if self.batched else 1
        return (list(indices[start : start + size]) for start in range(0, len(indices), size))

    def powers(self, samples: Samples, batch_size: int) -> list[float]:
        """Mean square of each output, over `JUDGED` of the samples."""
        sums, counts = defaultdict[int, float](float), defaultdict[int, int](int)
        for indices in self.chunks(spread(len(samples), JUDGED), batch_size):
            for number, output in enumerate(self(samples.batch(indices)[0])):
                sums[number] += float(output.double().square().sum())
                counts[number] += output.numel()
        return [total / max(counts[number], 1) for number, total in sums.items()]


@dataclass(frozen=True)
class Schedule:
    """How training goes through its samples."""

    epochs: int
    batch_size: int
    rate: float
    """Of Adam at the begin, as a part of each tensor's root mean square; it falls to 0 along a cosine."""
    seed: int
    """Of the order of samples."""


def enough_epochs(samples: int, batch_size: int, epochs: int, steps: int) -> int:
    """Epochs for `steps` steps at least: small data is gone through more often than `epochs` times."""
    return max(epochs, math.ceil(steps / math.ceil(samples / batch_size)))


@contextlib.contextmanager
def loss_of(spec: TrainSpec, root: Path, seed: int, samples: Samples, teacher: Teacher) -> Iterator[Loss]:
    """What ``[train] loss`` asks for, as long as the context lasts.

    Raises:
        EdgecError: as of `edgec.train.losses`.
    """
    if split_entry(spec.loss):
        with python_entry(spec.loss, root, ProjectError, seed=seed) as function:
            yield user_loss(spec.loss, root, function)
    else:
        powers = teacher.powers(samples, spec.batch_size)
        yield choose_loss(spec.loss, samples, teacher(samples[0][0]), powers)


class Loop:
    """Training one model on one data set.

    Args:
        model: what is trained.
        teacher: what it was made of.
        samples: the training data.
        schedule: how long, and in what steps.
    """

    def __init__(self, model: Learner, teacher: Teacher, samples: Samples, schedule: Schedule) -> None:
        self._model, self._teacher, self._samples, self._schedule = model, teacher, samples, schedule
        self._scores: Scores = "none" if samples.has_targets else scores_of(teacher(samples[0][0]))
        self._judged = spread(len(samples), JUDGED)

    @property
    def metric_name(self) -> str:
        """What `Score.metric` is."""
        if self._scores == "none":
            return "SQNR in dB"
        return "top-1 in %" if self._samples.has_classes else "agreement in %"

    @torch.no_grad()
    def judge(self, loss: Loss) -> Score:
        """The model as it is, on training samples."""
        total, first, second = 0.0, 0.0, 0.0
        for indices in self._teacher.chunks(self._judged, self._schedule.batch_size):
            inputs, labels = self._samples.batch(indices)
            outputs, wanted = self._outputs(inputs), self._teacher(inputs)
            total += float(loss(outputs, wanted, labels)) * len(indices)
            counts = self._count(outputs, wanted, labels)
            first, second = first + counts[0], second + counts[1]
        return Score(total / len(self._judged), self._metric(first, second))

    def run(
        self, loss: Loss, checkpoint: Checkpoint, progress: Callable[[str], None]
    ) -> tuple[list[dict[str, Any]], str]:
        """Train all epochs, or what is left of them after a kill.

        Returns:
            A record for each epoch, and why training stopped early ("" if it did not).
        """
        parameters = [value for value in self._model.parameters() if value.requires_grad]
        # a folded net's layers differ a thousandfold in size, and a step of Adam is as large as its rate
        sizes = [max(float(value.detach().square().mean().sqrt()), SMALLEST_SIZE) for value in parameters]
        groups = [{"params": [value], "size": size} for value, size in zip(parameters, sizes, strict=True)]
        optimizer = torch.optim.Adam(groups, lr=self._schedule.rate)
        records: list[dict[str, Any]] = []
        if state := checkpoint.load():
            self._model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            records = state["records"]
        for epoch in range(len(records), self._schedule.epochs):
            progress(f"epoch {epoch + 1} of {self._schedule.epochs}{_line(records, self.metric_name)}")
            score = self._epoch(epoch, loss, optimizer)
            if not math.isfinite(score.loss) or not all(bool(item.isfinite().all()) for item in parameters):
                return records, f"the loss is not finite in epoch {epoch + 1}; a smaller learning_rate may help"
            records.append({"epoch": epoch + 1, "loss": score.loss, "metric": score.metric})
            checkpoint.save(
                {"model": self._model.state_dict(), "optimizer": optimizer.state_dict(), "records": records}
            )
        progress(f"epoch {self._schedule.epochs} of {self._schedule.epochs}{_line(records, self.metric_name)}")
        return records, ""

    def _epoch(self, epoch: int, loss: Loss, optimizer: torch.optim.Optimizer) -> Score:
        total, first, second = 0.0, 0.0, 0.0
        schedule = self._schedule
        steps_an_epoch = math.ceil(len(self._samples) / schedule.batch_size)
        for number, batch in enumerate(shuffled(len(self._samples), schedule.batch_size, schedule.seed, epoch)):
            done = (epoch * steps_an_epoch + number) / (schedule.epochs * steps_an_epoch)
            for group in optimizer.param_groups:
                group["lr"] = group["size"] * schedule.rate * 0.5 * (1 + math.cos(math.pi * done))
            optimizer.zero_grad(set_to_none=True)
            with self._model.step(done, len(batch) if self._teacher.batched else 1):
                for indices in self._teacher.chunks(batch, schedule.batch_size):
                    inputs, labels = self._samples.batch(indices)
                    wanted, outputs = self._teacher(inputs), self._outputs(inputs)
                    value = loss(outputs, wanted, labels)
                    if not value.requires_grad:
                        what = "no output depends on the model's weights"
                        raise ProjectError(what, where="[train]", hint="remove it")
                    torch.autograd.backward(value * (len(indices) / len(batch)))
                    total += float(value.detach()) * len(indices)
                    counts = self._count(outputs, wanted, labels)
                    first, second = first + counts[0], second + counts[1]
                optimizer.step()
        return Score(total / len(self._samples), self._metric(first, second))

    def _outputs(self, inputs: Inputs) -> list[torch.Tensor]:
        return tensors_of(self._model(*[item.clone() for item in inputs]))

    @torch.no_grad()
    def _count(
        self, outputs: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], labels: torch.Tensor | None
    ) -> tuple[float, float]:
        return metric_of(outputs, wanted, labels if self._samples.has_classes else None, self._scores)

    def _metric(self, first: float, second: float) -> float:
        if self._scores != "none":
            return 100 * first / second
        return math.inf if first == 0 else 10 * math.log10(max(second, 1e-300) / first)


def _line(records: Sequence[dict[str, Any]], metric: str) -> str:
    if not records:
        return ""
    return f": loss {records[-1]['loss']:.4g}, {metric} {records[-1]['metric']:.2f}"
