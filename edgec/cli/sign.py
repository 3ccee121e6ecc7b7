"""`edgec sign`: add a bill of materials and signed statements to bundles."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import bundles_argument, incomplete_option, keys_option


@click.command()
@bundles_argument
@keys_option("FILE", "Private key; several may sign (default: the key itself in EDGEC_SIGNING_KEY).")
@click.option(
    "--builder",
    metavar="URI",
    envvar="EDGEC_BUILDER",
    help="Builder of the bundle, for its provenance (default: the holder of the key).",
)
@incomplete_option
def command(bundles: tuple[Path, ...], keys: tuple[Path, ...], builder: str | None, allow_incomplete: bool) -> None:
    """Sign every file of each BUNDLE, with its provenance and accuracy; earlier signatures are replaced.

    The digests are checked first. The passphrase of a key is in EDGEC_KEY_PASSWORD.
    """
    from edgec.bundle.manifest import ATTESTATIONS, SBOM
    from edgec.bundle.provenance.keys import private_keys
    from edgec.bundle.provenance.sign import sign_bundle
    from edgec.bundle.provenance.slsa import LOCAL_BUILDER

    held = private_keys(keys)
    for bundle in bundles:
        signed = sign_bundle(bundle, held, builder or LOCAL_BUILDER, allow_incomplete=allow_incomplete)
        echo(f"{bundle}: {signed.files} files signed with key {', '.join(signed.keys)}: {ATTESTATIONS}, {SBOM}")
