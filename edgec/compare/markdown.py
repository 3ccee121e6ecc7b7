"""A comparison as Markdown: for the terminal, and for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from edgec.compare.changes import Change
from edgec.compare.comparison import Comparison, File, Row
from edgec.compare.differences import Difference, Gap
from edgec.compare.judge import Regression
from edgec.compare.limits import QUANTITIES, Limit
from edgec.errors import printable
from edgec.report.numbers import drop_text

_DIGITS = {"points": 2, "dB": 1, "1": 4, "KiB": 1, "ms": 3, "x float32": 2, "MB": 1}
"""Decimals of a value, by unit."""
_SIGNS = {"points": " %", "1": ""}
"""Text after a value, where it is not the unit."""
_DROP = "drop against float (95 % interval)"
_ESCAPED = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "`": "\\`", "*": "\\*"})
_EDGE = re.compile(r"(?<![A-Za-z0-9_])_|_(?![A-Za-z0-9_])")
"""Underscores that could begin or end emphasis; those within words cannot (GitHub Flavored Markdown, 6.2)."""


def to_markdown(comparison: Comparison, limits: Sequence[Limit], regressions: Sequence[Regression]) -> str:
    """The whole comparison, regressions first.

    Args:
        comparison: of two bundles.
        limits: that were set.
        regressions: changes beyond them.
    """
    blocks = [f"## {_title(comparison)}: {_verdict(limits, regressions)}"]
    if regressions:
        lines = "\n".join(f"- **{_text(item.what)}**{_of(item)}: {_text(item.reason)}" for item in regressions)
        blocks.append(f"Worse than allowed ({_limits(limits)}):\n\n{lines}")
    blocks.append(_table(comparison, regressions))
    blocks += [_list(heading, lines) for heading, lines in _lists(comparison) if lines]
    return "\n\n".join(blocks) + "\n"


def _title(comparison: Comparison) -> str:
    names = dict.fromkeys((comparison.old_target, comparison.new_target))
    return " → ".join(_text(name) for name in names)


def _verdict(limits: Sequence[Limit], regressions: Sequence[Regression]) -> str:
    if not limits:
        return "compared, no limits set"
    if count := len(regressions):
        return f"{count} regression{'s' if count > 1 else ''}"
    return f"nothing worse than allowed ({_limits(limits)})"


def _limits(limits: Sequence[Limit]) -> str:
    return ", ".join(f"{limit.quantity} {limit}" for limit in limits)


def _where(row: Row) -> str:
    return f"{_text(row.artifact)} in {_text(row.runtime)}"


def _of(item: Regression) -> str:
    return f" of {_text(item.where)}" if item.where else ""


def _table(comparison: Comparison, regressions: Sequence[Regression]) -> str:
    bad = {(item.artifact, item.runtime, item.what) for item in regressions}
    sizes = {
        file.artifact: _cell(file.size, bad=(file.artifact, "", "size") in bad)
        for file in comparison.files
        if file.state == "compared"
    }
    headings = ["artifact", "runtime", "accuracy", _DROP, "agreement", "size", "latency", "peak memory"]
    lines = [headings, ["---", "---", *["---:"] * (len(headings) - 2)]]
    for row in comparison.rows:
        changes = {change.quantity: change for change in row.changes}
        name = _text(row.runtime) + ("" if row.judged else " (not judged)")
        cells = [_text(row.artifact), name]
        size = sizes.get(row.artifact, "-")
        if row.state != "compared":
            state = f"**{row.state}**" if (row.artifact, row.runtime, row.state) in bad else row.state
            lines.append([*cells, state, "-", "-", size, "-", "-"])
            continue
        values = {
            quantity: _cell(changes.get(quantity), bad=(row.artifact, row.runtime, quantity) in bad)
            for quantity in QUANTITIES
        }
        drops = [drop_text(row.old_metric), drop_text(row.new_metric)]
        drop = drops[0] if drops[0] == drops[1] else " → ".join(drops)
        lines.append([*cells, values["accuracy"], drop, values["agreement"], size, values["latency"], values["memory"]])
    for file in _unmeasured(comparison):
        state = "not measured" if file.state == "compared" else file.state
        lines.append([_text(file.artifact), "-", state, "-", "-", sizes.get(file.artifact, "-"), "-", "-"])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _unmeasured(comparison: Comparison) -> list[File]:
    """Files without a row."""
    measured = {row.artifact for row in comparison.rows}
    return [file for file in comparison.files if file.artifact not in measured]


def _cell(change: Change | None, *, bad: bool) -> str:
    if change is None or (change.old is None and change.new is None):
        return "-"
    text = f"{_value(change.old, change.unit)} → {_value(change.new, change.unit)}"
    if change.worse is None:
        text += " (not comparable)"
    elif change.worse == 0:
        text = _value(change.new, change.unit)
    else:
        text += f" ({_signed(change)})"
    return f"**{text}**" if bad else text


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    number = f"{value:.{_DIGITS[unit]}f}".replace("inf", "∞")
    return number + _SIGNS.get(unit, f" {unit}")


def _signed(change: Change) -> str:
    """The difference of quality in its own unit, that of cost in percent."""
    old, new = change.old or 0.0, change.new or 0.0
    if change.quantity in ("accuracy", "agreement") or not old:
        return f"{new - old:+.{_DIGITS[change.unit]}f}".replace("inf", "∞")
    return f"{100 * (new / old - 1):+.1f} %"


def _lists(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    states = [row for row in comparison.rows if row.state != "compared"]
    files = [file for file in _unmeasured(comparison) if file.state != "compared"]
    yield (
        "Not in both",
        [
            *(f"{_where(row)}: {row.state}{_because(row.reason)}" for row in states),
            *(f"{_text(file.artifact)}: {file.state}{_because(file.reason)}" for file in files),
        ],
    )
    yield "How it was compared", list(dict.fromkeys(_notes(comparison.rows)))
    yield "Coverage lost", [_gap(gap) for gap in comparison.coverage_lost]
    yield "Recipes", [_difference(item) for item in comparison.recipes]
    yield "Inputs", [_difference(item) for item in comparison.inputs]
    yield "Toolchain", [_difference(item) for item in comparison.toolchain]


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        for change in row.changes:
            never = change.quantity == "agreement" and change.old is None and change.new is None  # no class scores
            if change.worse is None and not never:
                yield f"{change.quantity} of {_where(row)}: not comparable: {_text(change.reason)}"
            elif change.reason and not never:
                yield f"{change.quantity} of {_where(row)}: {_text(change.reason)}"


def _gap(gap: Gap) -> str:
    place = f"{_text(gap.place)}: " if gap.place else ""
    return f"{place}{_text(gap.subject)}: {_text(gap.state)}{_because(gap.reason)}"


def _difference(item: Difference) -> str:
    return f"{_text(item.what)}: {_text(item.old)} → {_text(item.new)}"


def _because(reason: str) -> str:
    return f": {_text(reason)}" if reason else ""


def _list(heading: str, lines: Sequence[str]) -> str:
    return f"### {heading}\n\n" + "\n".join(f"- {line}" for line in lines)


def _text(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _EDGE.sub(r"\\_", printable(text.replace("\n", " ")).translate(_ESCAPED))
