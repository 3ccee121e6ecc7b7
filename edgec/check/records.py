"""Findings: errors and warnings as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from edgec.errors import EdgecError
from edgec.frozen import Frozen

Severity = Literal["error", "warning"]
Kind = Literal[
    "project", "target", "toolchain", "model", "input", "control-flow", "op", "memory", "data", "labels", "leak",
    "small-set", "accuracy",
]  # fmt: skip
"""The subject of a finding."""
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order of reports."""


class Finding(Frozen):
    """One problem. With an error, a bundle or an artifact cannot be right; a warning needs attention."""

    severity: Severity
    kind: Kind
    what: str
    where: str = ""
    """File and key, node, artifact or sample."""
    hint: str = ""
    """What to do about it."""
    exit_code: int = 0
    """That of the error a build would end with; 0 for a warning."""

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  {self.hint}" if self.hint else text


def warning(kind: Kind, what: str, *, where: str = "", hint: str = "") -> Finding:
    """A finding that does not keep a bundle from being built.

    Args:
        kind: its subject.
        what: the problem, one sentence.
        where: file and key, node, artifact or sample.
        hint: what to do about it.
    """
    return Finding(severity="warning", kind=kind, what=what, where=where, hint=hint)


def finding_of(error: EdgecError, kind: Kind) -> Finding:
    """An error of the tree as a finding."""
    return Finding(
        severity="error", kind=kind, what=error.what, where=error.where, hint=error.hint, exit_code=error.exit_code
    )


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Without repetitions; by kind, errors before warnings, else as they were found."""
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda item: (KINDS.index(item.kind), item.severity != "error")))


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the first error; 0 where there is none."""
    return next((item.exit_code for item in findings if item.severity == "error"), 0)
