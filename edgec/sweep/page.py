"""``sweep.html`` and the Markdown table of a sweep: every point, the Pareto front, and what could not be made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgec.report import page
from edgec.report.numbers import NOT_MEASURED, drop_text, number
from edgec.report.page import render_page
from edgec.report.scatter import Mark, Scatter, plot_scatter
from edgec.sweep.records import Point, Sweep

TEMPLATE = Path(__file__).with_name("sweep.html.j2")
FIGURE = Path(page.__file__).with_name("figure.svg.j2")
HEADINGS = (
    "target", "prune", "precision", "calibration", "artifact", "accuracy", "drop (95 %)", "SQNR dB", "KiB", "ms",
    "of float's", "MB", "",
)  # fmt: skip
TEXTS = 5
"""Columns that hold text, from the left."""


def render_sweep(sweep: Sweep) -> str:
    """A sweep as one HTML page without outside references."""
    unit = "SQNR dB" if sweep.metric == "sqnr" else sweep.metric
    plots: list[Scatter] = []
    for device in dict.fromkeys(point.device for point in sweep.points):
        own = [point for point in sweep.points if point.device == device and not point.failure]
        timed = [_mark(point, point.pace.steady_ms, point.size_kib) for point in own if point.pace is not None]
        sized = [_mark(point, point.size_kib, 0.0) for point in own]
        for marks, label in ((timed, "ms for one sample, on the machine of the sweep"), (sized, "KiB")):
            known = [mark for mark in marks if mark is not None]
            plot = plot_scatter(known, title=f"{device}: {unit} over {label}", x_label=label, y_label=unit)
            plots += [plot] if plot else []
    return render_page(
        TEMPLATE,
        sweep=sweep,
        plots=plots,
        headings=HEADINGS,
        texts=TEXTS,
        rows=[(point, row(point)) for point in sweep.points],
        unit=unit,
        covered=any(point.coverage for point in sweep.points),
    )


def render_figure(sweep: Sweep) -> str:
    """Accuracy over latency of all targets' points as one SVG file.

    Raises:
        ValueError: no point was timed.
    """
    unit = "SQNR dB" if sweep.metric == "sqnr" else sweep.metric
    marks = [
        _mark(point, point.pace.ratio, point.size_kib) for point in sweep.points if point.pace and not point.failure
    ]
    label = "latency, as a share of the unpruned float32 artifact's (areas: size)"
    plot = plot_scatter([mark for mark in marks if mark], title=f"{unit} over {label}", x_label=label, y_label=unit)
    if plot is None:
        raise ValueError("no point was timed")
    return render_page(FIGURE, plot=plot)


def markdown_table(points: Sequence[Point]) -> str:
    """All points as a Markdown table, with their columns aligned."""
    rows = [HEADINGS, *(row(point) for point in points)]
    rows = [tuple(_escaped(cell) for cell in one) for one in rows]
    widths = [max(3, *(len(one[index]) for one in rows)) for index in range(len(HEADINGS))]
    rule = [("-" * width if index < TEXTS else "-" * (width - 1) + ":") for index, width in enumerate(widths)]
    lines = [_aligned(rows[0], widths), f"| {' | '.join(rule)} |", *(_aligned(one, widths) for one in rows[1:])]
    return "\n".join(lines)


def row(point: Point) -> tuple[str, ...]:
    """One text for each of `HEADINGS`."""
    pace = point.pace
    marks = (("front", point.front), ("chosen", point.chosen), ("failed", bool(point.failure)))
    return (
        point.target,
        f"{point.prune:g}",
        point.precision,
        point.method or NOT_MEASURED,
        point.artifact,
        _accuracy(point),
        drop_text(point.metric),
        number(point.sqnr_db, 1),
        f"{point.size_kib:.1f}",
        NOT_MEASURED if pace is None else f"{pace.latency_ms:.3f}",
        NOT_MEASURED if pace is None else _ratio(pace.ratio, pace.ratio_low, pace.ratio_high),
        number(point.memory_mb, 0),
        ", ".join(name for name, there in marks if there),
    )


def _accuracy(point: Point) -> str:
    if point.metric is None:
        return NOT_MEASURED
    return f"{point.metric.value:.2f} %" if point.metric.unit == "points" else f"{point.metric.value:.4g}"


def _ratio(ratio: float, low: float, high: float) -> str:
    return f"{ratio:.2f}" if low == high else f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _mark(point: Point, x: float, weight: float) -> Mark | None:
    if point.quality is None:
        return None
    y = 100 * point.quality if point.metric is not None and point.metric.unit == "points" else point.quality
    title = f"{point.label}: {_accuracy(point)}, {point.size_kib:.1f} KiB"
    if point.pace is not None:
        title += f", {point.pace.latency_ms:.3f} ms"
    return Mark(x, y, weight, f"{point.precision} {point.backend}", title, point.front, point.chosen)


def _escaped(text: str) -> str:
    return re.sub(r"([|\\])", r"\\\1", text)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if index < TEXTS else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"
