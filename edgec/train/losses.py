"""The loss that training minimizes, and the measure of its progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional as F  # noqa: N812

from edgec.dataset.entry import entry_errors
from edgec.errors import LabelsError, ProjectError
from edgec.project.load import split_entry
from edgec.toml_source import suggest
from edgec.train.samples import Samples

Tensors = Sequence[torch.Tensor]
Loss = Callable[[Tensors, Tensors, torch.Tensor | None], torch.Tensor]
"""From the outputs of a batch, the float model's outputs and the labels to a scalar: the mean over the samples."""
Scores = Literal["none", "logits", "probabilities"]
"""What the model's first output is."""

NAMES = ("auto", "cross-entropy", "distill")
DISTILL_WEIGHT = 10.0
"""Beside cross-entropy: a distance of 20 dB counts as much as a cross-entropy of 0.1. With less of it, some hundred
samples are soon learnt by heart; with nothing else, labels that correct the float model are not used."""
_SMALLEST = 1e-7
"""Probabilities below this count as it: their logarithm has a gradient beyond all measure."""


def scores_of(outputs: Tensors) -> Scores:
    """What the first output of one sample is: scores of at least two classes, or something else."""
    first = outputs[0]
    if not first.is_floating_point() or first.dim() == 0 or first.shape[-1] < 2 or first.numel() != first.shape[-1]:
        return "none"
    probable = bool((first >= 0).all()) and abs(float(first.sum()) - 1) < 1e-3
    return "probabilities" if probable else "logits"


def choose_loss(name: str, samples: Samples, reference: Tensors, powers: Sequence[float]) -> Loss:
    """The built-in loss of that name.

    - ``cross-entropy``: of the first output, for labels that are class numbers.
    - ``distill``: squared distance from the float model's outputs, relative to their own squares, mean over outputs.
    - ``auto``: cross-entropy and `DISTILL_WEIGHT` times the distance where there are class scores and class labels,
      else ``distill``.

    Args:
        name: of `NAMES`.
        samples: with or without labels.
        reference: the float model's outputs of one sample.
        powers: mean square of each output of the float model.

    Raises:
        ProjectError: there is no such loss.
        LabelsError: cross-entropy without class labels, or without class scores.
    """
    scores = scores_of(reference)
    classify = scores != "none" and samples.has_classes
    if name not in NAMES:
        hint = suggest(name, NAMES) or f"losses: {', '.join(NAMES)}, or a Python entry file.py:function"
        raise ProjectError(f'no loss is called "{name}"', where="[train] loss", hint=hint)
    if name == "cross-entropy" and not classify:
        lacking = (
            "the training data has no class labels" if scores != "none" else "the first output has no class scores"
        )
        raise LabelsError(lacking, where="[train] loss", hint='loss = "distill" needs none of them')
    if classify:
        _check_labels(samples, reference[0].shape[-1])

    def loss(outputs: Tensors, wanted: Tensors, labels: torch.Tensor | None) -> torch.Tensor:
        if labels is None or not classify or name == "distill":
            return _distance(outputs, wanted, powers)
        right = _cross_entropy(outputs[0], labels, scores)
        return right if name == "cross-entropy" else right + DISTILL_WEIGHT * _distance(outputs, wanted, powers)

    return loss


def user_loss(entry: str, root: Path, function: Callable[..., Any]) -> Loss:
    """A Python entry of (outputs, labels) as a loss; outputs are a tensor if the model has one output, else a tuple.

    The loss raises ProjectError with the user's file and line where it fails, or gives no scalar with a gradient.
    """
    file = (split_entry(entry) or (entry, ""))[0]

    def loss(outputs: Tensors, wanted: Tensors, labels: torch.Tensor | None) -> torch.Tensor:
        with entry_errors(ProjectError, str(root / file)):
            value = function(outputs[0] if len(outputs) == 1 else tuple(outputs), labels)
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.is_floating_point():
            given = f"{value.dtype} {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ProjectError(f"the loss returned {given}", where=entry, hint="return a scalar tensor of floats")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ProjectError("the loss has no gradient", where=entry, hint="compute it from outputs with torch alone")
        return value.reshape(())

    return loss


def metric_of(outputs: Tensors, wanted: Tensors, labels: torch.Tensor | None, scores: Scores) -> tuple[float, float]:
    """Counts to be added up over samples: (right, all) of class scores, else (noise, signal) of all outputs."""
    if scores != "none":
        chosen = outputs[0].reshape(-1, outputs[0].shape[-1]).argmax(dim=1)
        right = labels.reshape(-1) if labels is not None else wanted[0].reshape(len(chosen), -1).argmax(dim=1)
        return float((chosen == right).sum()), float(len(chosen))
    pairs = [(ours, theirs) for ours, theirs in zip(outputs, wanted, strict=True) if theirs.is_floating_point()]
    noise = sum(float((ours - theirs).double().square().sum()) for ours, theirs in pairs)
    return noise, sum(float(theirs.double().square().sum()) for _, theirs in pairs)


def _cross_entropy(scores: torch.Tensor, labels: torch.Tensor, kind: Scores) -> torch.Tensor:
    rows = scores.reshape(-1, scores.shape[-1])
    if kind == "probabilities":
        return F.nll_loss(rows.clamp(min=_SMALLEST).log(), labels.reshape(-1))
    return F.cross_entropy(rows, labels.reshape(-1))


def _distance(outputs: Tensors, wanted: Tensors, powers: Sequence[float]) -> torch.Tensor:
    terms = [
        (ours - theirs).square().mean() / max(power, 1e-30)
        for ours, theirs, power in zip(outputs, wanted, powers, strict=True)
        if theirs.is_floating_point()
    ]
    if not terms:
        raise ProjectError(
            "no output of the model is a float, so there is nothing to learn from", where="[train]", hint="remove it"
        )
    return torch.stack(terms).mean()


def _check_labels(samples: Samples, classes: int) -> None:
    low, high = samples.label_range()
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise LabelsError(
            f"label {wrong} is none of the {classes} classes of the first output (0 to {classes - 1})",
            where="[train] labels",
        )
