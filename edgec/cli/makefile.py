"""`edgec makefile`: where the Makefile include is."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
def command() -> None:
    """Print the path of edgec.mk, for `include $(shell edgec makefile)`."""
    click.echo(Path(__file__).parents[1] / "edgec.mk")
