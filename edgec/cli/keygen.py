"""`edgec keygen`: make a pair of keys to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo


@click.command()
@click.option(
    "--out",
    "name",
    metavar="NAME",
    type=click.Path(path_type=Path),
    default=Path("edgec"),
    show_default=True,
    help="Files to write: NAME.key and NAME.pub.",
)
def command(name: Path) -> None:
    """Make an Ed25519 pair of keys: NAME.key signs and stays secret, NAME.pub verifies and is public.

    NAME.key is encrypted with the passphrase in EDGEC_KEY_PASSWORD, if that is set.
    """
    from edgec.bundle.provenance.keys import generate

    key = generate(name)
    secret = "private key, readable for you only; do not commit it"
    echo(f"{name}.key: {secret}; sign with: edgec sign BUNDLE --key {name}.key")
    echo(f"{name}.pub: public key; verify with: edgec verify BUNDLE --key {name}.pub")
    echo(f"key id {key}")
