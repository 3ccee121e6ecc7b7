"""Runs the float model on as many evaluation samples as time allows, and compares it with chance."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.check.reading import SetSurvey
from edgec.check.records import Finding, finding_of, warning
from edgec.dataset.balance import class_labels
from edgec.errors import EdgecError, LabelsError, ModelError, WeakFloatError
from edgec.model.spec import Array, FloatModel, TensorSpec
from edgec.verify.metrics import Metric, choose_metric, class_count
from edgec.verify.reference import forwarding
from edgec.verify.statistics import wilson
from edgec.verify.weak_float import CAUSES, weakness


@dataclass(frozen=True)
class ModelTrial:
    """The findings of running the float model."""

    findings: tuple[Finding, ...]
    samples: int = 0
    """Number of samples that it was run on."""


def of_labels(outputs: Sequence[TensorSpec], survey: SetSurvey, metric: str, root: Path) -> tuple[str, list[Finding]]:
    """The metric that a build would use (empty: not known), and findings about labels and metric.

    Args:
        outputs: of the float model; empty when they are not known.
        survey: of the evaluation set.
        metric: the user's choice.
        root: folder that a Python entry is relative to.
    """
    if not outputs:
        return "", list(_plain_labels(survey, metric))
    try:
        chosen = choose_metric(metric, tuple(outputs), survey.labels, root, group=survey.group).name
    except EdgecError as error:
        return "", [finding_of(error, "labels")]
    if metric == "auto" and survey.labels is None:
        what = "no labels: artifacts are compared with the float model, whether its answers are right or wrong"
        hint = 'state [evaluation] labels, or metric = "agreement" or "sqnr" if that is meant'
        return chosen, [warning("labels", what, where=survey.origin, hint=hint)]
    return chosen, []


def _plain_labels(survey: SetSurvey, metric: str) -> Iterator[Finding]:
    """Findings about labels that do not need the model's outputs."""
    if survey.labels is None:
        if metric == "top1":
            yield finding_of(
                LabelsError("the evaluation data has no labels", where="[evaluation] metric top1"), "labels"
            )
        return
    numbers = class_labels(survey.labels)
    if numbers is not None and len(numbers) and int(numbers.min()) < 0:
        what = f"labels go from {int(numbers.min())} to {int(numbers.max())}: classes are numbered from 0"
        yield finding_of(LabelsError(what, where=survey.origin), "labels")


def try_model(
    model: FloatModel, survey: SetSurvey, metric: str, *, threads: int, seconds: float, weak_allowed: bool
) -> ModelTrial:
    """Run the float model on evenly spread samples until the time is over.

    Args:
        model: the float model.
        survey: of the evaluation set.
        metric: name of the metric; ``top1`` is compared with chance.
        threads: CPU threads.
        seconds: after which no further sample is run.
        weak_allowed: whether a model near chance is a warning only.
    """
    if survey.group > 1 or not survey.kept:
        return ModelTrial(())
    deadline = time.monotonic() + seconds
    scores: list[Array] = []
    labels: list[Array | None] = []
    try:
        with forwarding(model, threads) as forward:
            for sample, label in _spread(survey.kept):
                outputs = forward(sample)
                broken = [name for name, array in outputs.items() if array.dtype.kind == "f" and np.isnan(array).any()]
                if broken:
                    nan = ModelError(f'output "{broken[0]}" of the float model is NaN', where=survey.origin)
                    return ModelTrial((finding_of(nan, "model"),), len(scores) + 1)
                scores.append(outputs[model.outputs[0].name])
                labels.append(label)
                if time.monotonic() > deadline:
                    break
    except EdgecError as error:
        return ModelTrial((finding_of(error, "model"),))
    except Exception as exc:
        message = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        hint = "check the values of integer inputs, and [[model.inputs]]"
        failed = ModelError(f"the float model fails on a sample: {message}", where=survey.origin, hint=hint)
        return ModelTrial((finding_of(failed, "model"),))
    findings: tuple[Finding, ...] = ()
    if metric == "top1":
        findings = tuple(_against_chance(model.outputs[0], scores, labels, survey.origin, allowed=weak_allowed))
    return ModelTrial(findings, len(scores))


def _spread(kept: Sequence[tuple[dict[str, Array], Array | None]]) -> Iterator[tuple[dict[str, Array], Array | None]]:
    """All samples, every 16th first and those between them later, so that each prefix is spread over the whole."""
    stride = 16
    for begin in sorted(range(stride), key=lambda place: f"{place:04b}"[::-1]):
        yield from kept[begin::stride]


def _against_chance(
    output: TensorSpec, scores: Sequence[Array], labels: Sequence[Array | None], origin: str, *, allowed: bool
) -> Iterator[Finding]:
    classes = class_count(output.shape, output.dtype)
    pairs = [(item.reshape(-1), int(label)) for item, label in zip(scores, labels, strict=True) if label is not None]
    if not classes or not pairs:
        return
    right, count = sum(int(item.argmax()) == label for item, label in pairs), len(pairs)
    if wilson(right, count).low > 1 / classes:
        return
    what = (
        f"the float model is right on {right} of {count} samples ({100 * right / count:.1f} %), and guessing among "
        f"{classes} classes would be on {100 / classes:.1f} %"
    )
    outputs = {output.name: np.stack([item for item, _ in pairs])}
    metric = Metric("top1", np.array([label for _, label in pairs]), Path(), unit="class")
    if reason := weakness(metric, outputs, lambda: None):
        weak = WeakFloatError(reason, where=origin, hint=f"{CAUSES}; --allow-weak-float builds it all the same")
        yield warning("accuracy", reason, where=origin, hint=CAUSES) if allowed else finding_of(weak, "accuracy")
    else:
        yield warning("accuracy", f"{what}: it may be no better than chance", where=origin, hint=CAUSES)
