"""`edgec pull`: published bundles to a folder; digests are checked, and with a key signatures."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import keys_option, out_option, retry_options


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--target", "-t", "targets", multiple=True, metavar="NAME", help="Target or glob (default: all).")
@out_option
@keys_option("PUB", "Public key; each bundle must be signed with one of them.")
@click.option(
    "--if-published", is_flag=True, help="Do nothing, and report it, if SOURCE has no bundles or not these targets."
)
@click.option(
    "--expect-manifest",
    "expected",
    metavar="SHA256",
    default="",
    help="Pull only a bundle whose manifest.json is this.",
)
@click.option("--replace-model", is_flag=True, help="Pull a bundle of another name, too, than the one it replaces.")
@click.option(
    "--allow-downgrade", is_flag=True, help="Pull a bundle, too, that is older than the newest pulled there before."
)
@retry_options
def command(
    source: str,
    targets: tuple[str, ...],
    out: Path,
    keys: tuple[Path, ...],
    if_published: bool,
    expected: str,
    replace_model: bool,
    allow_downgrade: bool,
    timeout: float,
    retries: int,
) -> None:
    """Pull bundles from SOURCE to <out>/<target>.

    SOURCE is a folder, file:///DIR, oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:...] or s3://BUCKET/PREFIX. A bundle that
    exists already is not downloaded again; an interrupted pull is continued by the next. A bundle of another name than
    the one in its place, and an older version than the newest that was there, are refused.
    """
    from edgec.cli.console import steps, terminal_console
    from edgec.errors import TargetError
    from edgec.publish.location import parse_location
    from edgec.publish.place import Accepted
    from edgec.publish.pull import pull
    from edgec.publish.store import NothingPublishedError
    from edgec.publish.transfer import RetryPolicy

    location = parse_location(source)
    accepted = Accepted(manifest=expected, replace_model=replace_model, allow_downgrade=allow_downgrade)
    policy = RetryPolicy(timeout=timeout, retries=retries)
    with terminal_console() as console, steps(console, "pull") as progress:
        try:
            for one in pull(
                location, targets or ("*",), out, keys=keys, accepted=accepted, policy=policy, progress=progress
            ):
                signed = f", signed with key {one.key}" if one.key else ""
                done = "pulled" if one.changed else "unchanged, nothing downloaded"
                progress(f"{one.target}: {done}{signed}: {one.title}")
                echo(out / one.target)
        except (NothingPublishedError, TargetError) as error:
            if not if_published:
                raise
            progress(f"{location}: {error.what}: nothing is pulled")
