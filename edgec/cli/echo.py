"""Text on standard output and error. Verbs print through this module alone, which a test holds them to."""

from __future__ import annotations

from pathlib import PurePath

import click

from edgec.errors import printable_lines


def echo(text: str | PurePath, *, err: bool = False, nl: bool = True, fg: str | None = None) -> None:
    """Print text; what a terminal would act on is escaped, but ends of lines.

    Args:
        text: lines; a path that the user named is printed as it is, since scripts read it.
        err: print to standard error.
        nl: end the line.
        fg: colour on a terminal.
    """
    click.secho(text if isinstance(text, PurePath) else printable_lines(text), err=err, nl=nl, fg=fg)
