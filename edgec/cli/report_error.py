"""Errors on standard error."""

from __future__ import annotations

import os

import click

from edgec.errors import EdgecError


def report_error(error: EdgecError) -> None:
    """Show what is wrong; in red on a terminal, unless NO_COLOR (no-color.org) is set."""
    click.secho(f"edgec: error: {error}", err=True, fg=None if os.environ.get("NO_COLOR") else "red")
