"""Errors on standard error."""

from __future__ import annotations

import os
from collections.abc import Sequence

from edgec.cli.echo import echo
from edgec.errors import EdgecError


def report_error(error: EdgecError) -> None:
    """Show what is wrong; in red on a terminal, unless NO_COLOR (no-color.org) is set."""
    echo(f"edgec: error: {error}", err=True, fg=None if os.environ.get("NO_COLOR") else "red")


def raise_first(errors: Sequence[EdgecError]) -> None:
    """Raise the first of `errors`, if there are any, and show the others, which would be lost."""
    for other in errors[1:]:
        report_error(other)
    if errors:
        raise errors[0]
