"""`edgec verify`: is this bundle still what was built, and does it compute the same here?"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
def command(bundle: Path) -> None:
    """Check every digest of BUNDLE, then replay its samples through each artifact in each runtime."""
    from edgec.bench.run import bench_on_host
    from edgec.bench.write import expected_file
    from edgec.bundle.check import check_digests

    manifest = check_digests(bundle)
    click.echo(f"{bundle}: {len(manifest.files)} files match their digests")
    for gap in manifest.coverage if not manifest.complete else ():
        if gap.state == "not built":
            click.echo(f"{gap.subject}: not in this bundle, which --keep-going made without it: {gap.reason}")
    for item in manifest.accuracy:
        if item.failure:
            click.echo(f"{item.artifact} in {item.runtime}: not run: {item.failure}")
            continue
        if f"bench/{expected_file(item.artifact)}" not in manifest.files:
            click.echo(f"{item.artifact} in {item.runtime}: not replayed: the harness does not run this format")
            continue
        result = bench_on_host(bundle, artifact=item.artifact, runtime=item.runtime, check_only=True)
        worst = max(output["max_abs_error"] for output in result["parity"]["outputs"])
        click.echo(f"{item.artifact} in {item.runtime}: outputs as recorded (largest difference {worst:.3g})")
