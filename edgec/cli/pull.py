"""`edgec pull`: published bundles to a folder; digests are checked, and with a key signatures."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.options import retry_options


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--target", "-t", "targets", multiple=True, metavar="NAME", help="Target or glob (default: all).")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"), show_default=True,
    help="Folder for bundles.",
)  # fmt: skip
@click.option(
    "--key", "keys", multiple=True, metavar="PUB", type=click.Path(path_type=Path),
    help="Public key; each bundle must be signed with one of them.",
)  # fmt: skip
@click.option(
    "--if-published", is_flag=True, help="Do nothing, and report it, if SOURCE has no bundles or not these targets."
)
@retry_options
def command(
    source: str,
    targets: tuple[str, ...],
    out: Path,
    keys: tuple[Path, ...],
    if_published: bool,
    timeout: float,
    retries: int,
) -> None:
    """Pull bundles from SOURCE to <out>/<target>.

    SOURCE is a folder, file:///DIR, oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:...] or s3://BUCKET/PREFIX. A bundle that
    exists already is not downloaded again; an interrupted pull is continued by the next.
    """
    from edgec.cli.progress import steps
    from edgec.errors import TargetError
    from edgec.publish.location import parse_location
    from edgec.publish.pull import pull
    from edgec.publish.store import NothingPublishedError
    from edgec.publish.transfer import RetryPolicy

    location = parse_location(source)
    policy = RetryPolicy(timeout=timeout, retries=retries)
    with steps("pull") as progress:
        try:
            for one in pull(location, targets or ("*",), out, keys=keys, policy=policy, progress=progress):
                signed = f", signed with key {one.key}" if one.key else ""
                progress(f"{one.target}: " + ("pulled" if one.changed else "unchanged, nothing downloaded") + signed)
                click.echo(out / one.target)
        except (NothingPublishedError, TargetError) as error:
            if not if_published:
                raise
            progress(f"{location}: {error.what}: nothing is pulled")
