"""From cells and times to points."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.bundle.manifest import Accuracy
from edgec.sweep.records import Pace, Point
from edgec.sweep.store import CellArtifact
from edgec.sweep.timing import Placed, Timed
from edgec.sweep.variants import Cell


@dataclass(frozen=True)
class Made:
    """One artifact of a cell."""

    cell: Cell
    placed: Placed
    beside: Placed | None
    """The unpruned float artifact of its format; may be the artifact itself."""
    alone: str = ""
    """Why there is nothing beside it."""

    @property
    def judged(self) -> Sequence[Accuracy]:
        """In each runtime that counts, or in all when none does."""
        found = self.placed.made.accuracy
        return [item for item in found if item.judged] or found

    @property
    def runtime(self) -> tuple[str, str]:
        """Name and version of the one that is timed."""
        return self.judged[0].runtime, self.judged[0].runtime_version

    @property
    def failure(self) -> str:
        """Why a judged runtime could not run it."""
        return next((f"{item.runtime}: {item.failure}" for item in self.judged if item.failure), "")

    @property
    def is_reference(self) -> bool:
        """Whether it is what it would be timed against."""
        return self.beside is not None and self.beside.made.sha256 == self.placed.made.sha256


def points_of(made: Sequence[Made], time: Callable[[Made], Timed]) -> tuple[Point, ...]:
    """A point for each artifact, with its times.

    Args:
        made: the artifacts.
        time: times one of them; called one after the other, and not for those that do not run.
    """
    timed = [Timed() if one.failure else time(one) for one in made]
    floats: dict[tuple[str, str], list[float]] = {}
    for one, found in zip(made, timed, strict=True):
        if found.latency is not None and one.beside is not None:
            beside_ms = found.speed.float_ms if found.speed else found.latency.p50_ms
            if found.speed or one.is_reference:
                floats.setdefault((one.beside.made.sha256, one.runtime[0]), []).append(beside_ms)
    return tuple(_point(one, found, floats) for one, found in zip(made, timed, strict=True))


def _point(one: Made, timed: Timed, floats: dict[tuple[str, str], list[float]]) -> Point:
    artifact: CellArtifact = one.placed.made
    metrics = [item.metric for item in one.judged if item.metric is not None]
    agreements = [item.agreement for item in one.judged if item.agreement is not None]
    noise = [output.sqnr_db for item in one.judged for output in item.fidelity]
    target = one.cell.plan.target
    return Point(
        target=one.cell.target,
        device=target.device.name,
        prune=one.cell.prune,
        precision=one.cell.precision,
        method=one.cell.method,
        artifact=artifact.artifact.file,
        backend=artifact.artifact.backend,
        runtime=one.runtime[0],
        sha256=artifact.sha256,
        size_bytes=artifact.size,
        recipe=artifact.recipe,
        metric=max(metrics, key=lambda item: item.drop, default=None),
        agreement=min(agreements, default=None),
        sqnr_db=min(noise, default=None),
        pruned="; ".join(step.summary for step in artifact.passes if step.name.startswith("prune")),
        pace=_pace(one, timed, floats),
        memory_mb=timed.memory_mb,
        coverage=artifact.coverage,
        failure=one.failure,
        notes=_notes(one, timed),
    )


def _notes(one: Made, timed: Timed) -> tuple[str, ...]:
    told = [timed.reason] if timed.reason else []
    if one.beside is None and not one.failure:
        told.append(f"no float artifact to be timed against{f': {one.alone}' if one.alone else ''}")
    return tuple(told)


def _pace(one: Made, timed: Timed, floats: dict[tuple[str, str], list[float]]) -> Pace | None:
    if timed.latency is None or one.beside is None:
        return None
    known = floats.get((one.beside.made.sha256, one.runtime[0]))
    if not known:
        return None
    typical, own = statistics.median(known), timed.latency.p50_ms
    if timed.speed is None:
        if not one.is_reference:
            return None
        return Pace(latency_ms=own, ratio=1.0, ratio_low=1.0, ratio_high=1.0, float_ms=own, steady_ms=typical)
    speed = timed.speed
    return Pace(
        latency_ms=own,
        ratio=1 / speed.ratio,
        ratio_low=1 / speed.high,
        ratio_high=1 / speed.low,
        float_ms=speed.float_ms,
        steady_ms=typical / speed.ratio,
    )
