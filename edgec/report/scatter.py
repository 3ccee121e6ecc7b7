"""Points of two quantities as geometry; the macro of ``scatter.svg.j2`` draws them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.report.plot import Tick, round_step

WIDTH, HEIGHT = 900.0, 420.0
"""Units of the picture; its page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 64.0, 24.0, 14.0, 44.0
SMALLEST, LARGEST = 4.0, 13.0
"""Radii."""
KINDS = 12
"""Number of colours; further groups reuse them."""


@dataclass(frozen=True)
class Mark:
    """One point to plot."""

    x: float
    y: float
    weight: float
    """Its area."""
    group: str
    """Points of one group have one colour."""
    title: str
    """Shown on hovering."""
    front: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class PlottedMark:
    """A point in units of the picture."""

    x: float
    y: float
    radius: float
    kind: int
    title: str
    front: bool
    chosen: bool


@dataclass(frozen=True)
class Scatter:
    """A picture of points."""

    title: str
    x_label: str
    y_label: str
    width: float
    height: float
    marks: tuple[PlottedMark, ...]
    front: str
    """The front as points of a polyline: a staircase, since nothing better lies between two of its points."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    groups: tuple[tuple[str, int], ...]


def plot_scatter(marks: Sequence[Mark], *, title: str, x_label: str, y_label: str) -> Scatter | None:
    """Points on two linear axes; small x and large y are good.

    Args:
        marks: the points; those that are not finite are left out.
        title: of the picture.
        x_label: of the axis.
        y_label: of the axis.

    Returns:
        None when there is nothing to plot.
    """
    marks = [mark for mark in marks if math.isfinite(mark.x) and math.isfinite(mark.y)]
    if not marks:
        return None
    x_axis = _Axis([mark.x for mark in marks], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([mark.y for mark in marks], HEIGHT - BOTTOM, TOP)
    groups = {name: index % KINDS for index, name in enumerate(dict.fromkeys(mark.group for mark in marks))}
    heaviest = max(mark.weight for mark in marks) or 1.0
    plotted = tuple(
        PlottedMark(
            x=x_axis.place(mark.x),
            y=y_axis.place(mark.y),
            radius=round(max(SMALLEST, LARGEST * math.sqrt(mark.weight / heaviest)), 1),
            kind=groups[mark.group],
            title=mark.title,
            front=mark.front,
            chosen=mark.chosen,
        )
        for mark in sorted(marks, key=lambda item: -item.weight)  # small ones over large ones
    )
    return Scatter(
        title, x_label, y_label, WIDTH, HEIGHT, plotted, _staircase(plotted), x_axis.ticks, y_axis.ticks,
        tuple(groups.items()),
    )  # fmt: skip


class _Axis:
    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        low, high = min(values), max(values)
        spread = (high - low) or abs(high) or 1.0
        step = round_step(spread / 5)
        self._low, self._high = math.floor(low / step) * step, math.ceil(high / step) * step
        if self._low == self._high:
            self._high += step
        self._begin, self._end = begin, end
        count = round((self._high - self._low) / step)
        values = [self._low + k * step for k in range(count + 1)]
        self.ticks = tuple(Tick(self.place(value), f"{round(value / step) * step:.6g}") for value in values)

    def place(self, value: float) -> float:
        share = (value - self._low) / (self._high - self._low)
        return round(self._begin + share * (self._end - self._begin), 1)


def _staircase(marks: Sequence[PlottedMark]) -> str:
    """A polyline through those marks of the front that dominate in the two quantities of the plot."""
    steps: list[tuple[float, float]] = []
    for mark in sorted((mark for mark in marks if mark.front), key=lambda item: (item.x, item.y)):
        if not steps or mark.y < steps[-1][1]:
            if steps:
                steps.append((mark.x, steps[-1][1]))
            steps.append((mark.x, mark.y))
    return " ".join(f"{x:g},{y:g}" for x, y in steps)
