"""`edgec publish`: bundles to a folder, an OCI registry or an S3 bucket."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import bundles_argument, incomplete_option, keys_option, retry_options


@click.command()
@bundles_argument
@click.argument("destination", metavar="DEST")
@click.option("--add", is_flag=True, help="Keep the other targets that are published at DEST.")
@keys_option("FILE", "Private key to sign the index with; several may sign.")
@click.option(
    "--expires",
    "days",
    type=click.IntRange(1, 3650),
    metavar="DAYS",
    help="Sign the index, for this long (default with --key: 90; without --key: the key itself in EDGEC_SIGNING_KEY).",
)
@incomplete_option
@retry_options
def command(
    bundles: tuple[Path, ...],
    destination: str,
    add: bool,
    keys: tuple[Path, ...],
    days: int | None,
    allow_incomplete: bool,
    timeout: float,
    retries: int,
) -> None:
    """Publish each BUNDLE (a bundle's folder, or a folder of bundles such as dist) to DEST.

    DEST is a folder, file:///DIR, oci://HOST[:PORT]/REPOSITORY[:TAG] or s3://BUCKET/PREFIX. Afterwards it names
    exactly these bundles; with --add, also the targets that it named before. A signed index is one that edgec pull
    --key refuses when it has expired; to renew it, publish again.
    """
    from edgec.cli.console import steps, terminal_console
    from edgec.publish.collect import collect_bundles
    from edgec.publish.location import parse_location
    from edgec.publish.offer import DAYS, sign_offer
    from edgec.publish.stores import open_store
    from edgec.publish.transfer import RetryPolicy, mebibytes

    began = time.monotonic()
    location = parse_location(destination)
    held = {}
    if keys or days:
        from edgec.bundle.provenance.keys import private_keys

        held = private_keys(keys)
    with terminal_console() as console, steps(console, "publish") as progress:
        collected = collect_bundles(bundles, progress, allow_incomplete=allow_incomplete)
        if held:
            collected = tuple(replace(one, offer=sign_offer(one, held, days or DAYS)) for one in collected)
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
