"""Tables of measurements and gates, for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.markup import escape
from rich.table import Table

from edgec.plan.rungs import FALLBACK
from edgec.quant.words import words
from edgec.report.page import NOT_MEASURED, number
from edgec.verify.blame import blame_lines, slower_line
from edgec.verify.records import GateResult, Measurement, MetricResult, RungRecord

WIDE = 120
"""Columns of a terminal that has room for the interval of the drop, the SQNR and the speed-up."""


def measurement_table(
    measurements: Sequence[Measurement], gates: Sequence[GateResult], precision: str, width: int
) -> Table:
    """One row per artifact and runtime: size, metric float and artifact, agreement, latency, gate.

    Args:
        measurements: the rows.
        gates: how they came out.
        precision: of the target; heads the artifacts' column.
        width: columns of the terminal.
    """
    columns: list[tuple[str, Callable[[Measurement], str]]] = [
        ("KiB", lambda item: f"{item.size_bytes / 1024:.1f}"),
        ("float", lambda item: _value(item.metric, "float_value")),
        (precision, lambda item: _value(item.metric, "value")),
    ]
    if width >= WIDE:
        columns.append(("drop (95% interval)", lambda item: _drop(item.metric)))
        columns.append(("SQNR dB", lambda item: NOT_MEASURED if (db := item.sqnr_db()) is None else f"{db:.1f}"))
    columns += [
        ("agree", lambda item: NOT_MEASURED if item.agreement is None else f"{100 * item.agreement:.1f}%"),
        ("host ms", lambda item: NOT_MEASURED if item.latency is None else f"{item.latency.p50_ms:.3f}"),
    ]
    if width >= WIDE and any(item.speed is not None for item in measurements):
        columns.append(("x float", _speed))
    table = Table(box=None, pad_edge=False, padding=(0, 1) if width < WIDE else (0, 2))
    for heading in ("artifact", "runtime"):
        table.add_column(heading, no_wrap=True)
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("gate", no_wrap=True)
    for item in measurements:
        table.add_row(item.artifact, item.runtime, *(value(item) for _, value in columns), _gate(item, gates))
    return table


def gate_table(gates: Sequence[GateResult]) -> Table:
    """The gates that failed, with how much they missed."""
    table = Table("artifact", "runtime", "gate", "limit", "value", "missed by", "reason", box=None, pad_edge=False)
    for gate in gates:
        if gate.state == "failed":
            value = NOT_MEASURED if gate.value is None else f"{gate.value:.4g}"
            missed = NOT_MEASURED if gate.margin is None else f"{-gate.margin:.4g}"
            name = f"{gate.gate} (default)" if gate.default else gate.gate
            table.add_row(gate.artifact, gate.runtime, name, f"{gate.limit:.4g}", value, missed, escape(gate.reason))
    return table


def rung_table(rungs: Sequence[RungRecord], *, ranges: bool = True) -> Table:
    """What the accuracy ladder tried, with the figures of each rung.

    Args:
        rungs: of all artifacts.
        ranges: whether the target's artifacts have calibrated ranges.
    """
    table = Table("artifact", "rung", "state", "recipe", "SQNR dB", "why", box=None, pad_edge=False)
    for rung in rungs:
        recipe = NOT_MEASURED
        if rung.recipe is not None and rung.rung != FALLBACK:
            recipe = words(rung.recipe, ranges=ranges)
        table.add_row(rung.artifact, rung.rung, rung.state, recipe, number(rung.sqnr_db, 1), escape(rung.reason))
    return table


def recipe_lines(rungs: Sequence[RungRecord]) -> tuple[str, ...]:
    """For each artifact with calibrated ranges the recipe that it was made by, in one line."""
    short = [rung for rung in reversed(rungs) if rung.state == "short" and rung.sqnr_db is not None]
    kept = {rung.artifact: rung for rung in sorted(short, key=lambda rung: rung.sqnr_db or 0.0)}  # the nearest
    kept |= {rung.artifact: rung for rung in rungs if rung.state == "met"}  # fewer float layers may have failed later
    return tuple(
        f"{artifact}: {words(rung.recipe)} ({rung.rung})"
        for artifact, rung in kept.items()
        if rung.recipe is not None and rung.rung != FALLBACK
    )


def slower_lines(measurements: Sequence[Measurement]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Artifacts that are slower than their float32 twin: what to say loudly, and the ops to blame."""
    return tuple((line, blame_lines(item)) for item in measurements if (line := slower_line(item)))


def _speed(item: Measurement) -> str:
    if item.speed is None:
        return NOT_MEASURED
    ratio = f"{item.speed.ratio:.2f} ({item.speed.low:.2f}-{item.speed.high:.2f})"
    return f"[red]{ratio}[/]" if item.speed.slower else ratio


def _value(metric: MetricResult | None, name: str) -> str:
    if metric is None:
        return NOT_MEASURED
    value = float(getattr(metric, name))
    return f"{value:.2f}%" if metric.unit == "points" else f"{value:.4g}"


def _drop(metric: MetricResult | None) -> str:
    if metric is None:
        return NOT_MEASURED
    if metric.drop_low is None or metric.drop_high is None:
        return f"{metric.drop:+.2f}"
    return f"{metric.drop:+.2f} ({metric.drop_low:+.2f} to {metric.drop_high:+.2f})"


def _gate(item: Measurement, gates: Sequence[GateResult]) -> str:
    if not item.judged:
        return "not judged"
    states = {gate.state for gate in gates if gate.artifact == item.artifact and gate.runtime == item.runtime}
    if "failed" in states:
        return "[red]FAILED[/]"
    if "short" in states:
        return "[red]short[/]"
    return "[green]met[/]" if "met" in states else "none"
