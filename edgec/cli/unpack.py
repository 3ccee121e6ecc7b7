"""`edgec unpack`: archives of `edgec pack` back to bundles, without trusting them."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("archives", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"), show_default=True,
    help="Folder for bundles.",
)  # fmt: skip
def command(archives: tuple[Path, ...], out: Path) -> None:
    """Put the bundle of each FILE (TARGET.tar.gz) at <out>/<target>, whole or not at all.

    Refused are links, paths that leave the bundle, files that do not match the manifest's digests, and a name that is
    not the target's. Whether the bundle is the one that was built is not known here: see edgec verify --key.
    """
    from edgec.bundle.archive import unpack

    for bundle in unpack(archives, out):
        click.echo(bundle)
