"""Sets of samples that are too small or too uniform, as `edgec check` and builds report them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edgec.check.records import Finding, warning
from edgec.dataset.balance import class_labels
from edgec.dataset.spool import Spool
from edgec.model.spec import Array
from edgec.verify.statistics import wilson

FEWEST_TO_CALIBRATE = 32
FEWEST_TO_EVALUATE = 50
ASSUMED_SHARE = 0.9
"""The share of right answers for which the interval of a small evaluation set is shown."""

Extremes = Mapping[str, tuple[float, float]]
"""Input -> its smallest and largest value over all samples."""


class Likeness:
    """Which inputs are equal in all samples, and the extremes of each."""

    def __init__(self) -> None:
        self._first: Mapping[str, Array] = {}
        self._same: set[str] = set()
        self._count = 0
        self.extremes: dict[str, tuple[float, float]] = {}

    def add(self, arrays: Mapping[str, Array]) -> None:
        """Add a sample."""
        self._count += 1
        if self._count == 1:
            self._first, self._same = arrays, set(arrays)
        self._same = {name for name in self._same if np.array_equal(arrays[name], self._first[name])}
        for name, array in arrays.items():
            if array.size:
                low, high = self.extremes.get(name, (float(array.flat[0]),) * 2)
                self.extremes[name] = min(low, float(array.min())), max(high, float(array.max()))

    @property
    def same(self) -> tuple[str, ...]:
        """Inputs that are equal in all samples, of which there are at least two."""
        return tuple(sorted(self._same)) if self._count > 1 else ()

    @property
    def varied(self) -> bool:
        """Whether no input is equal in all samples, and none holds a single value."""
        return not self._same and all(low != high for low, high in self.extremes.values())


def few_to_calibrate(count: int, origin: str) -> Iterator[Finding]:
    """A calibration set of fewer than `FEWEST_TO_CALIBRATE` samples."""
    if count < FEWEST_TO_CALIBRATE:
        what = f"{count} calibration samples are few: ranges of activations may be too narrow"
        hint = f"give at least {FEWEST_TO_CALIBRATE}, better a few hundred, of data like that in use"
        yield warning("small-set", what, where=origin, hint=hint)


def few_to_evaluate(count: int, origin: str) -> Iterator[Finding]:
    """An evaluation set of fewer than `FEWEST_TO_EVALUATE` samples, with its confidence interval."""
    if not 0 < count < FEWEST_TO_EVALUATE:
        return
    right = round(ASSUMED_SHARE * count)
    interval = wilson(right, count)
    what = (
        f"{count} evaluation samples are few: {right} of {count} right would mean {100 * interval.low:.0f} to "
        f"{100 * interval.high:.0f} % (95 % Wilson interval, {100 * (interval.high - interval.low):.0f} points wide)"
    )
    hint = f"give at least {FEWEST_TO_EVALUATE}, better a few hundred: smaller losses than that cannot be measured"
    yield warning("small-set", what, where=origin, hint=hint)


def one_class(labels: Array | None, origin: str, classes: Sequence[str] = ()) -> Iterator[Finding]:
    """Calibration samples that are all of one class.

    Args:
        labels: of the samples; None: not known.
        origin: the data source.
        classes: names of the classes.
    """
    numbers = class_labels(labels)
    if numbers is None or len(numbers) < 2 or len(np.unique(numbers)) > 1:
        return
    number = int(numbers[0])
    name = f' ("{classes[number]}")' if 0 <= number < len(classes) else ""
    what = f"all {len(numbers)} calibration samples are of one class, {number}{name}"
    yield warning("small-set", what, where=origin, hint="draw them from all classes: others have other ranges")


def constants(digests: Sequence[bytes], same: Sequence[str], extremes: Extremes, origin: str) -> Iterator[Finding]:
    """Calibration samples that are all equal, or hold one value.

    Args:
        digests: one a sample.
        same: inputs that are the same in every sample.
        extremes: of the inputs.
        origin: the data source.
    """
    flat = [name for name, (low, high) in extremes.items() if low == high]
    if len(digests) > 1 and len(set(digests)) == 1:
        what = f"all {len(digests)} calibration samples are equal"
        yield warning("small-set", what, where=origin, hint="ranges of activations follow from samples that differ")
        return
    for name in dict.fromkeys((*same, *flat)):
        value = f", {extremes[name][0]:g} everywhere" if name in flat else ""
        what = f'input "{name}" never changes in the calibration samples{value}'
        yield warning("small-set", what, where=origin, hint="give it as the model will be given it, if it varies there")


def of_spools(calibration: Spool | None, evaluation: Spool) -> tuple[Finding, ...]:
    """The findings about the samples of a build.

    Args:
        calibration: its calibration samples, where it has some.
        evaluation: its evaluation samples.
    """
    findings: list[Finding] = []
    if calibration is not None:
        origin, digests = calibration.info.origin, calibration.sample_digests()
        findings += few_to_calibrate(len(digests), origin)
        findings += one_class(calibration.labels, origin, calibration.info.classes)
        likeness = Likeness()
        for sample in calibration:
            likeness.add(sample)
            if likeness.varied:
                break
        findings += constants(digests, likeness.same, likeness.extremes, origin)
    return (*findings, *few_to_evaluate(len(evaluation) * evaluation.info.group, evaluation.info.origin))
