"""`edgec pack`: write each bundle as one archive file."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import bundles_argument


@click.command()
@bundles_argument
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Folder for archives (default: .)."
)
def command(bundles: tuple[Path, ...], out: Path) -> None:
    """Write each BUNDLE (a bundle's folder) to <out>/<target>.tar.gz, the same bytes each time.

    The digests are checked first; results of the harness in a bundle are not packed. Times in the archive are
    SOURCE_DATE_EPOCH, or 1980-01-01.
    """
    from edgec.bundle.archive import pack

    for archive in pack(bundles, out):
        echo(archive)
