"""Whether the float model is any good on the evaluation data, by running it on as many samples as time allows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.check.reading import Looked
from edgec.check.records import Finding, finding_of, warning
from edgec.dataset.balance import class_labels
from edgec.errors import EdgecError, LabelsError, ModelError, WeakFloatError
from edgec.model.spec import Array, FloatModel, TensorSpec
from edgec.verify.metrics import Metric, choose_metric, class_count
from edgec.verify.reference import forwarding
from edgec.verify.statistics import wilson
from edgec.verify.weak_float import CAUSES, weakness


@dataclass(frozen=True)
class Tried:
    """What running the float model has shown."""

    findings: tuple[Finding, ...]
    samples: int = 0
    """That it was run on."""


def of_labels(outputs: Sequence[TensorSpec], looked: Looked, metric: str, root: Path) -> tuple[str, list[Finding]]:
    """The metric that a build would use (empty: none can be told), and what is wrong with labels or metric.

    Args:
        outputs: of the float model; empty when they are not known.
        looked: the evaluation set.
        metric: the user's choice.
        root: folder that a Python entry is relative to.
    """
    if not outputs:
        return "", list(_plain_labels(looked, metric))
    try:
        chosen = choose_metric(metric, tuple(outputs), looked.labels, root, group=looked.group).name
    except EdgecError as error:
        return "", [finding_of(error, "labels")]
    if metric == "auto" and looked.labels is None:
        what = "no labels: artifacts are judged by how near they come to the float model, right or wrong"
        hint = 'state [evaluation] labels, or metric = "agreement" or "sqnr" if that is meant'
        return chosen, [warning("labels", what, where=looked.origin, hint=hint)]
    return chosen, []


def _plain_labels(looked: Looked, metric: str) -> Iterator[Finding]:
    """What can be said of labels where the model's outputs are not known."""
    if looked.labels is None:
        if metric == "top1":
            yield finding_of(
                LabelsError("the evaluation data has no labels", where="[evaluation] metric top1"), "labels"
            )
        return
    numbers = class_labels(looked.labels)
    if numbers is not None and len(numbers) and int(numbers.min()) < 0:
        what = f"labels go from {int(numbers.min())} to {int(numbers.max())}: classes are numbered from 0"
        yield finding_of(LabelsError(what, where=looked.origin), "labels")


def try_model(
    model: FloatModel, looked: Looked, metric: str, *, threads: int, seconds: float, weak_allowed: bool
) -> Tried:
    """Run the float model on samples, evenly out of those that were read, until the time is over."""
    if looked.group > 1 or not looked.kept:
        return Tried(())
    deadline = time.monotonic() + seconds
    scores: list[Array] = []
    labels: list[Array | None] = []
    try:
        with forwarding(model, threads) as forward:
            for sample, label in _spread(looked.kept):
                outputs = forward(sample)
                broken = [name for name, array in outputs.items() if array.dtype.kind == "f" and np.isnan(array).any()]
                if broken:
                    nan = ModelError(f'output "{broken[0]}" of the float model is NaN', where=looked.origin)
                    return Tried((finding_of(nan, "model"),), len(scores) + 1)
                scores.append(outputs[model.outputs[0].name])
                labels.append(label)
                if time.monotonic() > deadline:
                    break
    except EdgecError as error:
        return Tried((finding_of(error, "model"),))
    except Exception as exc:
        told = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        hint = "check the values of integer inputs, and [[model.inputs]]"
        failed = ModelError(f"the float model fails on a sample: {told}", where=looked.origin, hint=hint)
        return Tried((finding_of(failed, "model"),))
    found: tuple[Finding, ...] = ()
    if metric == "top1":
        found = tuple(_against_chance(model.outputs[0], scores, labels, looked.origin, allowed=weak_allowed))
    return Tried(found, len(scores))


def _spread(kept: Sequence[tuple[dict[str, Array], Array | None]]) -> Iterator[tuple[dict[str, Array], Array | None]]:
    """All, in an order of which each beginning is spread over the whole: every 16th first, then the ones between."""
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
    if told := weakness(metric, outputs, lambda: None):
        weak = WeakFloatError(told, where=origin, hint=f"{CAUSES}; --allow-weak-float builds it all the same")
        yield warning("accuracy", told, where=origin, hint=CAUSES) if allowed else finding_of(weak, "accuracy")
    else:
        yield warning("accuracy", f"{what}: that it is better than chance is not shown", where=origin, hint=CAUSES)
