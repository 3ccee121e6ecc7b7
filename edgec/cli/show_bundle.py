"""What a build says about its bundle: notes on data, coverage with one line for each reason, compressed sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console

from edgec.cli.console import say
from edgec.passes.coverage import Coverage, by_reason

if TYPE_CHECKING:
    from edgec.build.api import Bundle


def show_bundle(bundle: Bundle, console: Console) -> None:
    """Say what a finished bundle was made from, and what of it is not in the target's precision."""
    for line in _lines(bundle):
        say(console, f"  {line}")


def _lines(bundle: Bundle) -> Iterator[str]:
    manifest = bundle.manifest
    for data in filter(None, (manifest.calibration, manifest.evaluation)):
        yield from (f"{data.origin}: {note}" for note in data.notes)
    yield from coverage_lines(item for item in manifest.coverage if item not in manifest.missing)
    for one in manifest.artifacts:
        if one.compressed_size is not None:
            yield f"{one.artifact.file}: {one.size / 1024:.1f} KiB, {one.compressed_size / 1024:.1f} KiB compressed"


def coverage_lines(coverage: Iterable[Coverage]) -> tuple[str, ...]:
    """``subject: state: reason``, those of equal state and reason together, in the order in which they begin."""
    return by_reason((item.subject, f"{item.state}: {item.reason}") for item in coverage)
