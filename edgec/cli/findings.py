"""Findings on the terminal: errors in red and warnings in yellow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from edgec.check.records import Finding, Severity
from edgec.cli.console import say, terminal_console
from edgec.cli.options import flag_values
from edgec.errors import (
    DataLeakError,
    DatasetError,
    EdgecError,
    InputSpecError,
    LabelsError,
    ModelError,
    ProjectError,
    TargetError,
    UntrustedModelError,
)

STYLES: Mapping[Severity, str] = {"error": "bold red", "warning": "yellow"}
EARLY = (
    *(ProjectError, TargetError, ModelError, UntrustedModelError, InputSpecError),
    *(DatasetError, DataLeakError, LabelsError),
)
"""Errors that end a build before its first artifact: then it says what else is wrong."""


def show_by_kind(findings: Iterable[Finding], console: Console) -> None:
    """Print each finding, those of a kind under its name."""
    kind = ""
    for item in findings:
        if item.kind != kind:
            kind = item.kind
            console.print(kind, style="bold", highlight=False, markup=False)
        _print(item, console, "  ")


def show_findings(findings: Iterable[Finding], console: Console, target: str) -> None:
    """Print findings of a build, each with its target."""
    for item in findings:
        _print(item, console, f"{target}: ")


def _print(item: Finding, console: Console, before: str) -> None:
    text = f"{item.severity}: {item}".replace("\n", f"\n{' ' * (len(before) - len(before.lstrip()))}")
    say(console, f"{before}{text}", STYLES[item.severity])


def counted(findings: Sequence[Finding]) -> str:
    """``2 errors, 1 warning``."""
    severities = [item.severity for item in findings]
    counts = {name: severities.count(name) for name in STYLES}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())


def report_others(root: Path, given: Mapping[str, Any], error: EdgecError) -> None:
    """Show what else is wrong with a project that cannot be built for `error`, which is shown elsewhere."""
    from edgec.check.run import check

    text = str(error)
    others = [item for item in check(root, flag_values(dict(given))).findings if not _same(item, error, text)]
    if any(item.severity == "error" for item in others):
        with terminal_console() as console:
            show_by_kind(others, console)


def _same(item: Finding, error: EdgecError, text: str) -> bool:
    return item.what in text or error.what in item.what
