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
        findings += constants(digests, *_likeness(calibration), origin)
    return (*findings, *few_to_evaluate(len(evaluation) * evaluation.info.group, evaluation.info.origin))


def _likeness(spool: Spool) -> tuple[list[str], Extremes]:
    """Inputs that are equal in all samples, and the extremes of those that hold a single value."""
    first = spool[0]
    same = {name for name in first if len(spool) > 1}
    flat = {name: array.size > 0 for name, array in first.items()}
    for sample in spool:
        same = {name for name in same if np.array_equal(sample[name], first[name])}
        flat = {name: is_flat and _holds_only(sample[name], first[name]) for name, is_flat in flat.items()}
        if not same and not any(flat.values()):
            break
    extremes = {name: (value, value) for name in first if flat[name] for value in [float(first[name].reshape(-1)[0])]}
    return sorted(same), extremes


def _holds_only(array: Array, first: Array) -> bool:
    return bool((array == first.reshape(-1)[0]).all())
