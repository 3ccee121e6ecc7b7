"""Horizontal bars as geometry; the macro of ``bars.svg.j2`` draws them as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 900.0
"""Units of the picture; its page scales it."""
ROW = 19.0
TOP = 8.0
AXIS = 24.0
LABEL = 330.0
VALUE = 90.0
"""Room for labels on the left, and for values on the right."""
LONGEST = 46
"""Characters of a label that have room."""


@dataclass(frozen=True)
class Bar:
    """One row to plot."""

    label: str
    value: float | None
    """May be infinite; None: not known, without a bar."""
    text: str
    """Beside the bar."""
    note: str = ""
    """Shown on hovering, with the whole label."""
    weak: bool = False
    """Whether it is highlighted."""


@dataclass(frozen=True)
class PlottedBar:
    """A bar in units of the picture."""

    label: str
    title: str
    y: float
    x: float
    width: float
    text: str
    text_x: float
    weak: bool


@dataclass(frozen=True)
class Tick:
    """A line of the grid."""

    x: float
    text: str


@dataclass(frozen=True)
class BarPlot:
    """A picture of bars."""

    title: str
    unit: str
    width: float
    height: float
    bars: tuple[PlottedBar, ...]
    ticks: tuple[Tick, ...]


def plot_bars(bars: Sequence[Bar], *, title: str, unit: str) -> BarPlot:
    """Bars from 0 on, in the order given, with a common scale; infinite ones end at the edge.

    Args:
        bars: the rows.
        title: of the picture.
        unit: of the values.
    """
    finite = [bar.value for bar in bars if bar.value is not None and math.isfinite(bar.value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    if low == high:
        high = 1.0
    step = round_step((high - low) / 5)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    room = WIDTH - LABEL - VALUE

    def place(value: float) -> float:
        return round(LABEL + (min(max(value, low), high) - low) / (high - low) * room, 1)

    plotted = []
    for index, bar in enumerate(bars):
        value = 0.0 if bar.value is None else bar.value
        begin, end = sorted((place(0.0), place(value)))
        plotted.append(
            PlottedBar(
                label=_short(bar.label),
                title=f"{bar.label}: {bar.text}{': ' if bar.note else ''}{bar.note}",
                y=TOP + index * ROW,
                x=begin,
                width=round(end - begin, 1),
                text=bar.text,
                text_x=end + 4,
                weak=bar.weak,
            )
        )
    count = round((high - low) / step)
    ticks = tuple(Tick(place(low + k * step), f"{low + k * step:g}") for k in range(count + 1))
    return BarPlot(title, unit, WIDTH, TOP + len(bars) * ROW + AXIS, tuple(plotted), ticks)


def round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten that is not below `least`: how far ticks lie apart."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))


def _short(label: str) -> str:
    """The end of a long label: module paths differ there."""
    return label if len(label) <= LONGEST else "…" + label[1 - LONGEST :]
