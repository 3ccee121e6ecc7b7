"""The Pareto front: what is at least as good as anything else in one respect."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.sweep.records import Point


def on_front(points: Sequence[Point]) -> tuple[bool, ...]:
    """Whether each point is on the front of its device: accuracy up, latency and size down.

    A point is not when another one is at least as good in all three and better in one; equal points are all on it, or
    none is. Points that were not measured in all three are on no front and keep none off it. Of latencies the steady
    ones are compared (`Pace.steady_ms`).
    """
    values = [_values(point) for point in points]
    return tuple(
        mine is not None
        and not any(
            other is not None and beside.device == point.device and _dominates(other, mine)
            for other, beside in zip(values, points, strict=True)
        )
        for mine, point in zip(values, points, strict=True)
    )


def _values(point: Point) -> tuple[float, float, float] | None:
    """What is to be small."""
    if point.failure or point.quality is None or point.pace is None:
        return None
    return -point.quality, point.pace.steady_ms, float(point.size_bytes)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
