"""`edgec cache`: what is kept of earlier builds, and how to empty it."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from edgec.cli.echo import echo
from edgec.storage.cache import CacheEntry, cache_limit, user_cache


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show what is kept of earlier builds, by kind of result.

    Builds, sweeps and analyses of all projects share it. It is in $EDGEC_CACHE (by default ~/.cache/edgec), and takes
    $EDGEC_CACHE_GB gigabytes at most (by default 10): what was used least recently goes first.
    """
    if ctx.invoked_subcommand is not None:
        return
    from rich.table import Table

    from edgec.cli.console import SafeConsole

    cache, limit = user_cache(), cache_limit()
    entries = list(cache.entries())
    table = Table("result", "entries", "MB", "last used (UTC)", box=None, pad_edge=False)
    for what in sorted({entry.what for entry in entries}):
        same = [entry for entry in entries if entry.what == what]
        used = datetime.fromtimestamp(max(entry.used for entry in same), UTC)
        table.add_row(what, str(len(same)), _megabytes(same), f"{used:%Y-%m-%d %H:%M}")
    console = SafeConsole()
    if entries:
        console.print(table)
    size = sum(entry.bytes for entry in entries)
    echo(f"{cache.folder}: {size / 1e6:.1f} MB in {len(entries)} entries, {limit / 1e6:.0f} MB at most")


@command.command()
def clean() -> None:
    """Remove everything that is kept; later builds compute it again."""
    cache = user_cache()
    entries = list(cache.entries())
    cache.trim(0)
    echo(f"{cache.folder}: {_megabytes(entries)} MB in {len(entries)} entries removed")


def _megabytes(entries: list[CacheEntry]) -> str:
    return f"{sum(entry.bytes for entry in entries) / 1e6:.1f}"
