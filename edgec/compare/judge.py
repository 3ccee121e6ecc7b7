"""Finds the changes that are worse than allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from edgec.compare.changes import SHARE, Cause, Change
from edgec.compare.comparison import Comparison
from edgec.compare.limits import Limit
from edgec.frozen import Frozen

_ROUNDING = 1e-9
"""What is worse by no more than this share of a limit beyond it is at the limit: 0.3 - 0.2 is more than 0.1."""


class Regression(Frozen):
    """A quantity that is worse than allowed or cannot be judged, or an artifact that is missing or fails."""

    artifact: str
    """Empty when it concerns the whole bundle."""
    runtime: str
    """Empty when it concerns the artifact's file."""
    what: str
    """A quantity of `edgec.compare.limits`, or ``gone`` or ``fails now``."""
    reason: str
    cause: Cause | None = None
    """Why it could not be compared."""

    def __str__(self) -> str:
        return f"{f'{self.where}: ' if self.where else ''}{self.what}: {self.reason}"

    @property
    def where(self) -> str:
        """Artifact and runtime, where they are not empty."""
        return f"{self.artifact} in {self.runtime}" if self.runtime else self.artifact


def judge(comparison: Comparison, limits: Sequence[Limit], allowed: Collection[Cause] = ()) -> tuple[Regression, ...]:
    """Everything that passes a limit.

    Limits hold for artifacts' files and for runtimes that gates hold for; other runtimes are only reported. With any
    limit at all, what vanished or no longer runs is a regression; with none, nothing is. What cannot be compared fails
    its limit, and so does a limit for which there was nothing at all to compare.

    Args:
        comparison: of two bundles.
        limits: by how much each quantity may be worse.
        allowed: causes for which a quantity may go without comparison.
    """
    return tuple(_regressions(comparison, limits, allowed)) if limits else ()


def _regressions(comparison: Comparison, limits: Sequence[Limit], allowed: Collection[Cause]) -> Iterator[Regression]:
    judged = [row for row in comparison.rows if row.judged]
    reported = {row.artifact for row in judged if row.state == "gone"}
    for file in comparison.files:
        if file.state == "gone" and file.artifact not in reported:
            yield Regression(artifact=file.artifact, runtime="", what="gone", reason=file.reason)
        if file.state == "compared":
            yield from _held(file.artifact, "", (file.size,), limits, allowed)
    for row in judged:
        if row.state in ("gone", "fails now"):
            yield Regression(artifact=row.artifact, runtime=row.runtime, what=row.state, reason=row.reason)
        yield from _held(row.artifact, row.runtime, row.changes, limits, allowed)
    compared = {change.quantity for row in judged for change in row.changes}
    compared |= {file.size.quantity for file in comparison.files if file.state == "compared"}
    for limit in limits:
        if limit.quantity not in compared:
            common = "artifact is" if limit.quantity == "size" else "runtime that gates judge ran"
            reason = f"nothing was compared: no {common} in both bundles"
            yield Regression(artifact="", runtime="", what=limit.quantity, reason=reason, cause="not measured")


def _held(
    artifact: str, runtime: str, changes: Iterable[Change], limits: Sequence[Limit], allowed: Collection[Cause]
) -> Iterator[Regression]:
    for change in changes:
        for limit in limits:
            if limit.quantity == change.quantity and (reason := _broken(limit, change, allowed)):
                yield Regression(
                    artifact=artifact, runtime=runtime, what=change.quantity, reason=reason, cause=change.cause
                )


def _broken(limit: Limit, change: Change, allowed: Collection[Cause]) -> str:
    """Why a limit does not hold; empty when it does."""
    if change.worse is None:
        return "" if change.cause in allowed else f"not comparable: {change.reason}"
    if limit.unit not in ("%", change.unit) and (limit.unit or change.unit == SHARE):
        if change.unit == SHARE and "machine" in allowed:
            return ""
        scale = "on the metric's own scale" if change.unit == "1" else f"in {change.unit}"
        return f"not comparable in {limit.unit or 'ms'}: it is {change.reason or scale}; state the limit in percent"
    relative = change.relative or 0.0
    worse = 100 * relative if limit.unit == "%" else change.worse
    if worse <= limit.amount * (1 + _ROUNDING):
        return ""
    note = f" ({change.reason})" if change.reason else ""
    return f"{amount(change)} worse than before, {limit} allowed{note}"


def amount(change: Change) -> str:
    """By how much a comparable quantity is worse, in its unit and in percent: ``0.42 points (0.4 %)``."""
    worse, relative = change.worse or 0.0, change.relative or 0.0
    unit = "" if change.unit == "1" else f" {change.unit}"
    return f"{worse:.3g}{unit} ({100 * relative:.1f} %)"
