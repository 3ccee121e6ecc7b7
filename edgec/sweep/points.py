"""Makes the points of a sweep from its cells and times."""

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
    """Why `beside` is None."""

    @property
    def judged(self) -> Sequence[Accuracy]:
        """The accuracy in each judged runtime; in all runtimes when none is judged."""
        results = self.placed.made.accuracy
        return [item for item in results if item.judged] or results

    @property
    def runtime(self) -> tuple[str, str]:
        """Name and version of the runtime that it is timed in."""
        return self.judged[0].runtime, self.judged[0].runtime_version

    @property
    def failure(self) -> str:
        """Why a judged runtime could not run it."""
        return next((f"{item.runtime}: {item.failure}" for item in self.judged if item.failure), "")

    @property
    def is_reference(self) -> bool:
        """Whether it is the float artifact that others are timed against."""
        return self.beside is not None and self.beside.made.sha256 == self.placed.made.sha256


def points_of(made: Sequence[Made], time: Callable[[Made], Timed]) -> tuple[Point, ...]:
    """A point for each artifact, with its times.

    Args:
        made: the artifacts.
        time: times one artifact; called one after the other, and only for artifacts that run.
    """
    timed = [Timed() if one.failure else time(one) for one in made]
    floats: dict[tuple[str, str], list[float]] = {}
    for one, times in zip(made, timed, strict=True):
        if times.latency is not None and one.beside is not None:
            beside_ms = times.speed.float_ms if times.speed else times.latency.p50_ms
            if times.speed or one.is_reference:
                floats.setdefault((one.beside.made.sha256, one.runtime[0]), []).append(beside_ms)
    return tuple(_point(one, times, floats) for one, times in zip(made, timed, strict=True))


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
    notes = [timed.reason] if timed.reason else []
    if one.beside is None and not one.failure:
        notes.append(f"no float artifact to compare its latency with{f': {one.alone}' if one.alone else ''}")
    return tuple(notes)


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
