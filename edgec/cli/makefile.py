"""`edgec makefile`: where the Makefile include is."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo


@click.command()
def command() -> None:
    """Print the path of edgec.mk, for `include $(shell edgec makefile)`."""
    echo(Path(__file__).parents[1] / "edgec.mk")
