"""What `edgec validate` found, for the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgec.cli.console import say
from edgec.errors import printable
from edgec.report.numbers import NOT_MEASURED, drop_text, number
from edgec.validate.records import ClassResult, Drift, RunResult, Share, Validation

SHOWN = 3
"""Layers, classes and samples of each artifact; all of them are in the JSON and on the page."""


def show_validation(validation: Validation, console: Console) -> None:
    """Print what was run, how it did, drift, and the samples that differ most."""
    labelled = "with labels" if validation.labelled else "without labels"
    _print(console, f"{validation.data}: {validation.samples} samples {labelled}")
    _print(console, f"compared with {validation.reference}")
    console.print(_run_table(validation))
    for run in validation.runs:
        if run.failure:
            _print(console, f"{run.name}: not run: {run.failure}")
    console.print(_drift_table(validation))
    for item in validation.drift:
        if item.reason:
            _print(console, f"{item.bundle}/{item.artifact}: activations not looked at: {item.reason}")
    for item in validation.drift:
        _show_layers(item, console)
    for run in validation.runs:
        _show_classes(run, console)
        _show_worst(run, console)
    for note in validation.notes:
        _print(console, f"  {note}")


def _run_table(validation: Validation) -> Table:
    columns: list[tuple[str, Callable[[RunResult], str]]] = [
        (validation.metric or "metric", lambda run: _value(run.value, run.interval)),
        ("own evaluation", lambda run: number(run.bundle_value)),
        ("drop from float (95%)", lambda run: drop_text(run.paired, "+")),
        ("agree", lambda run: _share(run.agreement)),
        ("SQNR dB", lambda run: number(min((one.sqnr_db for one in run.fidelity), default=None), 1)),
    ]
    table = Table("artifact", "runtime", box=None, pad_edge=False)
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for run in validation.runs:
        name = f"{run.bundle}/{run.artifact}" + ("" if run.role == "artifact" else f" ({run.role})")
        table.add_row(escape(printable(name)), run.runtime, *(value(run) for _, value in columns))
    return table


def _drift_table(validation: Validation) -> Table:
    table = Table("drift", box=None, pad_edge=False)
    for heading in (
        "samples that leave ranges",
        "of the evaluation set",
        "layers left by clearly more",
        "layers whose level moved",
        "drift",
    ):
        table.add_column(heading, justify="right")
    for item in validation.drift:
        share = _share(item.outside)
        table.add_row(
            escape(printable(f"{item.bundle}/{item.artifact}" + ("" if item.runtime else " (inputs)"))),
            f"[red]{share}[/]" if item.clear else share,
            _share(item.evaluation),
            f"{item.left} of {len(item.layers)}" if item.outside is not None else NOT_MEASURED,
            f"{sum(layer.certain > 0 for layer in item.layers)} of {len(item.layers)}" if item.layers else NOT_MEASURED,
            NOT_MEASURED if item.points is None else f"{item.points:.1f}",
        )
    return table


def _show_layers(item: Drift, console: Console) -> None:
    moved = sorted((layer for layer in item.layers if layer.certain), key=lambda layer: -layer.certain)
    for layer in moved[:SHOWN]:
        _print(
            console,
            f"  {item.bundle}/{item.artifact}: {layer.tensor}: level moved by {layer.shift:+.2f} standard deviations "
            f"of the evaluation set",
        )
    clear = sorted((layer for layer in item.layers if layer.clear), key=lambda layer: -layer.outside.value)
    for layer in clear[:SHOWN]:
        _print(
            console,
            f"  {item.bundle}/{item.artifact}: {layer.tensor}: {100 * layer.outside.value:.1f}% of the samples leave "
            f"{layer.low:.4g} to {layer.high:.4g} (evaluation {100 * layer.evaluation.value:.1f}%)",
        )


def _show_classes(run: RunResult, console: Console) -> None:
    """The classes that lose most against float, or agree least."""

    def loss(item: ClassResult) -> float:
        if item.value is not None and item.float_value is not None:
            return item.value - item.float_value
        return 0.0 if item.agreement is None else item.agreement - 100

    for item in sorted((item for item in run.classes if loss(item) < 0), key=loss)[:SHOWN]:
        against = "" if item.float_value is None else f", float {item.float_value:.1f}%"
        right = "" if item.value is None else f": {item.value:.1f}% right{against}"
        agree = "" if item.agreement is None else f", {item.agreement:.1f}% agree"
        line = f"  {run.name}: class {item.label} ({item.samples} samples){right}{agree}"
        _print(console, line)


def _show_worst(run: RunResult, console: Console) -> None:
    for item in run.worst[:SHOWN]:
        taken = f"{item.expected} -> {item.predicted}, " if item.predicted != item.expected else ""
        label = f"label {item.label}, " if item.label else ""
        left = "" if item.layers is None else f", leaves {item.layers} ranges"
        line = f"  {run.name}: sample {item.index} {item.place}".rstrip()
        line += f": {label}{taken}{number(item.sqnr_db, 1)} dB{left}"
        _print(console, line)


def _print(console: Console, line: str) -> None:
    say(console, printable(line))


def _value(value: float | None, interval: Share | None) -> str:
    if value is None or interval is None:
        return number(value)
    return f"{value:.2f}% ({100 * interval.low:.1f}-{100 * interval.high:.1f})"


def _share(item: Share | None) -> str:
    if item is None:
        return NOT_MEASURED
    return f"{100 * item.value:.1f}% ({100 * item.low:.1f}-{100 * item.high:.1f})"
