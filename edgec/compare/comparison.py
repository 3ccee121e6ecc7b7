"""Compares two bundles: every artifact in every runtime, and all other differences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from edgec.bundle.manifest import Accuracy
from edgec.compare.changes import (
    Change,
    compare_accuracy,
    compare_agreement,
    compare_latency,
    compare_memory,
    compare_size,
    untimed,
)
from edgec.compare.differences import (
    Difference,
    Gap,
    coverage_lost,
    input_changes,
    other_data,
    other_model,
    recipe_changes,
    toolchain_changes,
)
from edgec.compare.side import Place, Side
from edgec.errors import UsageError
from edgec.frozen import Frozen
from edgec.verify.records import MetricResult

State = Literal["compared", "new", "gone", "fails now", "runs now", "never ran"]


class File(Frozen):
    """One artifact's file, whatever its runtimes."""

    artifact: str
    state: Literal["compared", "new", "gone"]
    size: Change
    reason: str = ""
    """Why it is missing."""


class Row(Frozen):
    """One artifact in one runtime."""

    artifact: str
    runtime: str
    state: State
    judged: bool
    """Whether gates apply to this runtime, in either bundle."""
    reason: str = ""
    """Why it is missing or does not run."""
    old_metric: MetricResult | None = None
    """Has the drop against the older bundle's float model and its interval."""
    new_metric: MetricResult | None = None
    changes: tuple[Change, ...] = ()


class Comparison(Frozen):
    """Everything that differs between two bundles."""

    old_target: str
    new_target: str
    files: tuple[File, ...]
    rows: tuple[Row, ...]
    coverage_lost: tuple[Gap, ...]
    recipes: tuple[Difference, ...]
    inputs: tuple[Difference, ...]
    toolchain: tuple[Difference, ...]


def compare(old: Side, new: Side, *, allow_other_target: bool = False) -> Comparison:
    """Compare two bundles of one target.

    Args:
        old: the older bundle.
        new: the newer one.
        allow_other_target: whether they may be of different targets.

    Raises:
        UsageError: they are of different targets.
    """
    names = (old.manifest.target.name, new.manifest.target.name)
    if names[0] != names[1] and not allow_other_target:
        raise UsageError(
            f"OLD is a bundle for {names[0]}, NEW one for {names[1]}",
            hint="name two bundles of one target, or add --allow-other-target",
        )
    return Comparison(
        old_target=names[0],
        new_target=names[1],
        files=tuple(_file(name, old, new) for name in {**old.artifacts, **new.artifacts}),
        rows=tuple(_row(place, old, new) for place in {**old.places, **new.places}),
        coverage_lost=coverage_lost(old, new),
        recipes=recipe_changes(old, new),
        inputs=input_changes(old, new),
        toolchain=toolchain_changes(old, new),
    )


def _file(name: str, old: Side, new: Side) -> File:
    before, now = old.artifacts.get(name), new.artifacts.get(name)
    size = compare_size(before.size if before else None, now.size if now else None)
    if before is None:
        return File(artifact=name, state="new", size=size)
    if now is None:
        return File(artifact=name, state="gone", size=size, reason=_why_gone(name, new))
    return File(artifact=name, state="compared", size=size)


def _row(place: Place, old: Side, new: Side) -> Row:
    before, now = old.places.get(place), new.places.get(place)
    judged = any(item.judged for item in (before, now) if item is not None)
    state, reason = _state(before, now, place, new)
    changes = tuple(_changes(place, old, new, before, now)) if before and now and state == "compared" else ()
    return Row(
        artifact=place[0],
        runtime=place[1],
        state=state,
        judged=judged,
        reason=reason,
        old_metric=before.metric if before else None,
        new_metric=now.metric if now else None,
        changes=changes,
    )


def _state(before: Accuracy | None, now: Accuracy | None, place: Place, new: Side) -> tuple[State, str]:
    if before is None:
        return "new", now.failure if now else ""
    if now is None:
        return ("never ran", before.failure) if before.failure else ("gone", _why_gone(place[0], new))
    if now.failure:
        return ("never ran" if before.failure else "fails now"), now.failure
    return ("runs now", f"it did not run in OLD: {before.failure}") if before.failure else ("compared", "")


def _why_gone(artifact: str, new: Side) -> str:
    if artifact in new.artifacts:
        return "NEW was not measured in this runtime"
    reason = next((gap.reason for gap in new.manifest.coverage if gap.subject == artifact), "")
    return f"NEW has no such artifact{f': {reason}' if reason else ''}"


def _changes(place: Place, old: Side, new: Side, before: Accuracy, now: Accuracy) -> Iterator[Change]:
    data = other_data(old.manifest, new.manifest)
    yield compare_accuracy(before, now, data)
    yield compare_agreement(before, now, data)
    first, second = old.times.get(place), new.times.get(place)
    if first is None or second is None:
        side, name = (old, "OLD") if first is None else (new, "NEW")
        reason = f"{name} was not timed: {side.untimed or 'it has no record of this runtime'}"
        yield untimed("latency", "ms", reason)
        yield untimed("memory", "MB", reason)
        return
    yield compare_latency(first, second, other_model(old.manifest, new.manifest))
    yield compare_memory(first, second)
