"""`edgec publish`: bundles to a folder, an OCI registry or an S3 bucket."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import bundles_argument, incomplete_option, retry_options


@click.command()
@bundles_argument
@click.argument("destination", metavar="DEST")
@click.option("--add", is_flag=True, help="Keep the other targets that are published at DEST.")
@incomplete_option
@retry_options
def command(
    bundles: tuple[Path, ...], destination: str, add: bool, allow_incomplete: bool, timeout: float, retries: int
) -> None:
    """Publish each BUNDLE (a bundle's folder, or a folder of bundles such as dist) to DEST.

    DEST is a folder, file:///DIR, oci://HOST[:PORT]/REPOSITORY[:TAG] or s3://BUCKET/PREFIX. Afterwards it names
    exactly these bundles; with --add, also the targets that it named before.
    """
    from edgec.cli.console import steps, terminal_console
    from edgec.publish.collect import collect_bundles
    from edgec.publish.location import parse_location
    from edgec.publish.stores import open_store
    from edgec.publish.transfer import RetryPolicy, mebibytes

    began = time.monotonic()
    location = parse_location(destination)
    with terminal_console() as console, steps(console, "publish") as progress:
        collected = collect_bundles(bundles, progress, allow_incomplete=allow_incomplete)
        store = open_store(location, RetryPolicy(timeout=timeout, retries=retries))
        done = store.publish(collected, add=add, progress=progress)
    for note in done.notes:
        echo(note, err=True)
    if done.changed:
        sent = f"{done.sent} files sent ({mebibytes(done.sent_bytes)}), {done.kept} not sent again"
    else:
        sent = "nothing sent: everything is published already"
    echo(f"{', '.join(done.targets)}: {sent}; {time.monotonic() - began:.1f} s", err=True)
    echo(done.reference)
