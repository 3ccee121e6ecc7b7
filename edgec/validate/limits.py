"""What ``--fail-on`` says, and whether it holds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from edgec.errors import UsageError
from edgec.frozen import Frozen
from edgec.toml_source import suggest
from edgec.validate.records import Drift, RunResult, Validation

Quantity = Literal["drop", "fall", "disagreement", "drift"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

_LIMIT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|points)?\Z")
_ROUNDING = 1e-9
"""100 * (1 - 0.97) is above 3 in binary."""
_EXAMPLE = "--fail-on drop=0.5,drift=5%"


class Limit(Frozen):
    """The largest value that one quantity may have, in percentage points (or a metric's own scale)."""

    quantity: Quantity
    amount: float


class Miss(Frozen):
    """A limit that does not hold for one artifact."""

    quantity: Quantity
    subject: str
    limit: float
    value: float | None
    """None: it cannot be told, and so does not hold."""
    reason: str = ""

    def __str__(self) -> str:
        value = "cannot be told" if self.value is None else f"{self.value:.4g}"
        return f"{self.subject}: {self.quantity} {self.limit:g}: {value}{f' ({self.reason})' if self.reason else ''}"


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """The limits of all ``--fail-on`` options, each ``QUANTITY=NUMBER[%]``, several with commas between them.

    Raises:
        UsageError: an unknown quantity, one that stands twice, or no number that a limit can be.
    """
    limits: dict[Quantity, Limit] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, equals, value = (item.strip() for item in part.partition("="))
        quantity = next((item for item in QUANTITIES if item == name), None)
        if quantity is None:
            hint = suggest(name, QUANTITIES) or f"quantities: {', '.join(QUANTITIES)}; for example: {_EXAMPLE}"
            raise UsageError(f'--fail-on: nothing that is measured is called "{name}"', hint=hint)
        match = _LIMIT.match(value) if equals else None
        if match is None or not math.isfinite(float(match[1])):
            raise UsageError(f'--fail-on: {name}: "{value}" is no limit', hint=f"a number of points: {_EXAMPLE}")
        if quantity in limits:
            raise UsageError(f"--fail-on: {quantity} stands twice", hint="state each quantity once")
        limits[quantity] = Limit(quantity=quantity, amount=float(match[1]))
    return tuple(limits.values())


def misses(validation: Validation, limits: Sequence[Limit]) -> tuple[Miss, ...]:
    """Every limit that does not hold, by artifact and runtime; with a limit stated, each artifact must run."""
    return tuple(miss for limit in limits for miss in _misses(validation, limit))


def _misses(validation: Validation, limit: Limit) -> Iterator[Miss]:
    if limit.quantity == "drift":
        for item in validation.drift:
            subject, value = f"{item.bundle}/{item.artifact}", item.points
            if value is None or value > limit.amount + _ROUNDING:
                yield Miss(quantity="drift", subject=subject, limit=limit.amount, value=value, reason=_told_drift(item))
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
            return None, "that takes labels, or a metric, and a float twin"
        return run.paired.drop, f"{run.paired.name} {run.paired.float_value:.4g} -> {run.paired.value:.4g}"
    if quantity == "fall":
        if run.fall is None:
            return None, "that takes labels, and a bundle that was judged by the same metric"
        return run.fall, f"{run.bundle_value:.4g} on the evaluation set, {run.value:.4g} here"
    if run.agreement is None:
        return None, "that takes class scores, and something to compare with"
    return 100 * (1 - run.agreement.value), ""


def _told_drift(item: Drift) -> str:
    if item.outside is None or item.evaluation is None:
        return item.reason
    told = (
        f"{100 * item.outside.value:.1f} % of the samples leave calibrated ranges, of the evaluation set "
        f"{100 * item.evaluation.value:.1f} %"
    )
    moved = max(item.layers, key=lambda layer: layer.moved, default=None)
    if moved is None or not moved.moved:
        return told
    return f"{told}; the level of {moved.tensor} has moved by {moved.shift:.2g} standard deviations"
