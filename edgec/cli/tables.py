"""Tables of measurements and gates, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from edgec.verify.records import GateResult, Measurement, MetricResult

NOT_MEASURED = "-"


def measurement_table(measurements: Sequence[Measurement], gates: Sequence[GateResult]) -> Table:
    """One row per artifact and runtime: size, metric float and artifact, agreement, latency, gate."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("artifact", "runtime"):
        table.add_column(heading, no_wrap=True)
    for heading in ("KiB", "float", "artifact", "drop (95% interval)", "agreement", "SQNR dB", "host p50 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("gate", no_wrap=True)
    for item in measurements:
        metric = item.metric
        table.add_row(
            item.artifact,
            item.runtime,
            f"{item.size_bytes / 1024:.1f}",
            _value(metric, "float_value"),
            _value(metric, "value"),
            _drop(metric),
            NOT_MEASURED if item.agreement is None else f"{100 * item.agreement:.2f}%",
            NOT_MEASURED if (sqnr := item.sqnr_db()) is None else f"{sqnr:.1f}",
            NOT_MEASURED if item.latency is None else f"{item.latency.p50_ms:.3f}",
            _gate(item, gates),
        )
    return table


def gate_table(gates: Sequence[GateResult]) -> Table:
    """The gates that failed, with how much they missed."""
    table = Table("artifact", "runtime", "gate", "limit", "value", "missed by", "reason", box=None, pad_edge=False)
    for gate in gates:
        if gate.state == "failed":
            value = NOT_MEASURED if gate.value is None else f"{gate.value:.4g}"
            missed = NOT_MEASURED if gate.margin is None else f"{-gate.margin:.4g}"
            table.add_row(gate.artifact, gate.runtime, gate.gate, f"{gate.limit:.4g}", value, missed, gate.reason)
    return table


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
    return "[green]met[/]" if "met" in states else "none"
