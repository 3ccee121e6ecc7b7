"""Limits of ``--fail-on``, and whether they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from edgec.frozen import Frozen
from edgec.validate.records import Drift, RunResult, Validation
from edgec.verify import fail_on

Quantity = Literal["drop", "fall", "disagreement", "drift"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

_ROUNDING = 1e-9
"""100 * (1 - 0.97) is above 3 in binary."""
_EXAMPLE = "--fail-on drop=0.5,drift=5%"


Limit = fail_on.Limit[Quantity]
"""The largest value that one quantity may have, in percentage points (or a metric's own scale)."""


class Miss(Frozen):
    """A limit that does not hold for one artifact."""

    quantity: Quantity
    subject: str
    limit: float
    value: float | None
    """None: it was not measured, and so does not hold."""
    reason: str = ""

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        return f"{self.subject}: {self.quantity} {self.limit:g}: {value}{f' ({self.reason})' if self.reason else ''}"


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """The limits of all ``--fail-on`` options, see `edgec.verify.fail_on`; ``%`` and ``points`` are the same here.

    Raises:
        UsageError: an unknown quantity, a quantity that is stated twice, or a number that is not valid.
    """
    return fail_on.parse_fail_on(texts, dict.fromkeys(QUANTITIES, ("points",)), _EXAMPLE)


def misses(validation: Validation, limits: Sequence[Limit]) -> tuple[Miss, ...]:
    """Every limit that does not hold, by artifact and runtime; with any limit, each artifact must run."""
    return tuple(miss for limit in limits for miss in _misses(validation, limit))


def _misses(validation: Validation, limit: Limit) -> Iterator[Miss]:
    if limit.quantity == "drift":
        for item in validation.drift:
            subject, value = f"{item.bundle}/{item.artifact}", item.points
            if value is None or value > limit.amount + _ROUNDING:
                yield Miss(
                    quantity="drift", subject=subject, limit=limit.amount, value=value, reason=_drift_reason(item)
                )
        return
    for run in (item for item in validation.runs if item.role == "artifact"):
        value, reason = _value(run, limit.quantity)
        if value is None or value > limit.amount + _ROUNDING:
            yield Miss(quantity=limit.quantity, subject=run.name, limit=limit.amount, value=value, reason=reason)


def _value(run: RunResult, quantity: Quantity) -> tuple[float | None, str]:
    if run.failure:
        return None, f"it was not run: {run.failure}"
    if quantity == "drop":
        if run.paired is None:
            return None, "it needs labels or a metric, and a float twin"
        return run.paired.drop, f"{run.paired.name} {run.paired.float_value:.4g} -> {run.paired.value:.4g}"
    if quantity == "fall":
        if run.fall is None:
            return None, "it needs labels, and a bundle that was judged by the same metric"
        return run.fall, f"{run.bundle_value:.4g} on the evaluation set, {run.value:.4g} here"
    if run.agreement is None:
        return None, "it needs class scores, and a reference to compare with"
    return 100 * (1 - run.agreement.value), ""


def _drift_reason(item: Drift) -> str:
    if item.outside is None or item.evaluation is None:
        return item.reason
    text = (
        f"{100 * item.outside.value:.1f} % of the samples leave calibrated ranges; of the evaluation set "
        f"{100 * item.evaluation.value:.1f} %"
    )
    moved = max(item.layers, key=lambda layer: layer.moved, default=None)
    if moved is None or not moved.moved:
        return text
    return f"{text}; the level of {moved.tensor} has moved by {moved.shift:.2g} standard deviations"
