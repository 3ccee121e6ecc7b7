"""`edgec verify`: check the signature, the digests and the outputs of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.cli.echo import echo
from edgec.cli.options import incomplete_option, keys_option
from edgec.errors import printable

if TYPE_CHECKING:
    from edgec.bundle.manifest import Manifest


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@keys_option("PUB", "Public key; the bundle must be signed with it (or with one of several).")
@click.option("--digests", is_flag=True, help="Check signature and digests only; no model is loaded.")
@incomplete_option
def command(bundle: Path, keys: tuple[Path, ...], digests: bool, allow_incomplete: bool) -> None:
    """Check the signature of BUNDLE, then every digest, then replay its samples in each runtime.

    No program of the bundle is run, but its models are, and runtimes are not hardened against malicious models. For a
    bundle of unknown origin give --digests, or a --key that you trust.
    """
    from edgec.bundle.check import check_digests, refuse_incomplete

    if keys:
        from edgec.bundle.provenance.verify import verify_signature

        verified = verify_signature(bundle, keys)
        echo(f"{bundle}: {verified.files} files as signed by key {verified.key}, for {verified.target}")
    manifest = check_digests(bundle)
    echo(f"{bundle}: {len(manifest.files)} files match their digests")
    if not keys:
        from edgec.bundle.provenance.verify import claimed_signers

        if claimed := claimed_signers(bundle):
            echo(f"{bundle}: claims a signature by key {', '.join(claimed)}; not verified: give --key NAME.pub")
    for gap in manifest.missing:
        echo(printable(f"{bundle}: lacks {gap.subject} ({gap.state}: {gap.reason})"))
    if not digests:
        _replay(bundle, manifest)
    if not allow_incomplete:
        refuse_incomplete(bundle, manifest, "it is incomplete")


def _replay(bundle: Path, manifest: Manifest) -> None:
    from edgec.bundle.bench.run import bench_on_host
    from edgec.bundle.bench.write import expected_file

    for item in manifest.accuracy:
        named = printable(f"{item.artifact} in {item.runtime}")
        if item.failure:
            echo(f"{named}: not run: {printable(item.failure)}")
            continue
        if not item.judged:
            echo(f"{named}: not replayed: the bundle does not allow this runtime")
            continue
        if f"bench/{expected_file(item.artifact)}" not in manifest.files:
            echo(f"{named}: not replayed: the harness does not run this format")
            continue
        result = bench_on_host(bundle, artifact=item.artifact, runtime=item.runtime, check_only=True, own=False)
        worst = max(output["max_abs_error"] for output in result["parity"]["outputs"])
        echo(f"{named}: outputs as recorded (largest difference {worst:.3g})")
