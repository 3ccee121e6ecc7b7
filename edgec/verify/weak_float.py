"""Refusal of float models that are near chance on the data: the loss of int8 is meaningless then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgec.dataset.balance import class_labels
from edgec.errors import ProjectError, WeakFloatError
from edgec.model.spec import Array
from edgec.project.load import split_entry
from edgec.project.spec import Gates
from edgec.verify.agreement import predictions
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs, by_entry, first_output
from edgec.verify.quality import accuracy_limit
from edgec.verify.statistics import Interval, wilson

CAUSES = (
    "usual causes: channels in another order than in training ([preprocess] color), another mean, std or divide, "
    "labels in another order than the model's outputs"
)
NEAR = 0.1
"""Part of the way from chance to perfect below which a model counts as near chance, however many samples say so."""
UNSURE = 0.25
"""The same where the interval holds chance itself: a wider one belongs to too small a set to judge."""
FAR = 0.5
"""Part of what the model is above chance on calibration samples that it must be on evaluation samples."""


@dataclass(frozen=True)
class TopOne:
    """How often the arg-max of a model is the label."""

    right: int
    samples: int
    chance: float
    """What the same predictions would score on the labels in random order, 0 to 1; where there is only one label, one
    over the number of classes. Of predictions that are always the same it is that class's share."""

    @property
    def interval(self) -> Interval:
        """Of the share of right ones, 95 % (Wilson)."""
        return wilson(self.right, self.samples)

    @property
    def near_chance(self) -> bool:
        """Whether, by the interval, the model is hardly better than chance, if at all."""
        interval, above = self.interval, 1 - self.chance
        hardly = interval.high < self.chance + min(NEAR * above, self.chance)
        return hardly or (interval.low <= self.chance and interval.high < self.chance + UNSURE * above)

    def far_below(self, other: TopOne) -> bool:
        """Whether the intervals say that this is above chance by less than half of what `other` is."""
        return self._above(self.interval.high) < FAR * other._above(other.interval.low)

    @property
    def may_be_far_below(self) -> bool:
        """Whether it would be `far_below` a model that is always right."""
        return self._above(self.interval.high) < FAR

    def _above(self, share: float) -> float:
        return (share - self.chance) / max(1 - self.chance, 1e-9)

    def words(self) -> str:
        """``33.1 % (119 of 360, 95 % interval 28.4 to 38.1 %)``."""
        low, high = 100 * self.interval.low, 100 * self.interval.high
        share = 100 * self.right / self.samples
        return f"{share:.1f} % ({self.right} of {self.samples}, 95 % interval {low:.1f} to {high:.1f} %)"


def top_one(outputs: Outputs, labels: Array, group: int = 1) -> TopOne:
    """Top-1 of class scores, and chance.

    Args:
        outputs: of a model; the first are the scores.
        labels: one class number a sample.
        group: entries of the data that the model takes at once.
    """
    scores = first_output(by_entry(outputs, group))
    predicted, wanted = predictions(scores).reshape(-1), labels.reshape(-1).astype(np.int64)
    classes = scores.shape[-1]
    if len(np.unique(wanted)) < 2:
        chance = 1 / classes
    else:
        shares = [np.bincount(one[one >= 0], minlength=classes)[:classes] / len(one) for one in (predicted, wanted)]
        chance = float(np.dot(*shares))
    return TopOne(int(np.count_nonzero(predicted == wanted)), len(wanted), chance)


def weakness(metric: Metric, reference: Outputs, calibrated: Callable[[], tuple[Outputs, Array, int] | None]) -> str:
    """Why the float model is not worth compiling as it is fed, or an empty string.

    Only top-1 is judged: of other metrics the result of chance is not known.

    Args:
        metric: of the build.
        reference: the float model's outputs on the evaluation samples.
        calibrated: gives its outputs on labelled calibration samples, the labels, and the entries of a run; None where
            there are none. Asked only where the answer may matter.
    """
    if metric.name != "top1" or metric.labels is None:
        return ""
    measured = top_one(reference, metric.labels, metric.group)
    if measured.near_chance:
        stated = f"the float model's top-1 on the evaluation samples is {measured.words()}"
        return f"{stated}, and chance is {100 * measured.chance:.1f} %"
    known = calibrated() if measured.may_be_far_below else None
    if known is None or class_labels(known[1]) is None:
        return ""
    other = top_one(*known)
    if not measured.far_below(other):
        return ""
    return (
        f"the float model's top-1 on the evaluation samples is {measured.words()}, "
        f"on calibration samples {other.words()}: "
        "the two sets are not labelled or stored alike, or the model knows its training data by heart"
    )


def refuse_inaccurate(gates: Gates, metric: Metric, reference: Outputs) -> None:
    """Hold the float model to ``min_accuracy``.

    Args:
        gates: the project's.
        metric: the settled metric, with the labels.
        reference: the float model's outputs.

    Raises:
        ProjectError: it is stated, and the metric only compares with the float model.
        WeakFloatError: the float model is below it.
    """
    if gates.min_accuracy is None:
        return
    if metric.name != "top1" and not split_entry(metric.name):
        raise ProjectError(
            f'the metric is "{metric.name}", which compares with the float model and measures no accuracy',
            where="[gates] min_accuracy",
            hint="state [evaluation] labels, or a metric of your own: metric = file.py:function",
        )
    result = metric.compare(reference, reference)
    assert result is not None  # only sqnr has none
    limit = accuracy_limit(gates.min_accuracy, result)
    if result.float_value < limit:
        unit = " %" if result.unit == "points" else ""
        count = len(first_output(reference)) * metric.group
        raise WeakFloatError(
            f"the float model's {result.name} is {result.float_value:.4g}{unit} on {count} evaluation samples, "
            f"below min_accuracy {limit:g}{unit}",
            where="[gates] min_accuracy",
            hint=CAUSES,
        )
