"""`edgec unpack`: extract archives of `edgec pack`, which are not trusted."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import out_option


@click.command()
@click.argument("archives", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@out_option
def command(archives: tuple[Path, ...], out: Path) -> None:
    """Extract the bundle of each FILE (TARGET.tar.gz) to <out>/<target>, completely or not at all.

    An archive is refused if it has links, paths that leave the bundle, files that do not match the manifest's digests,
    or the name of another target. Its origin is not checked: see edgec verify --key.
    """
    from edgec.bundle.archive import unpack

    for bundle in unpack(archives, out):
        echo(bundle)
