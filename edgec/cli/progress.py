"""Steps on standard error: one line that changes on a terminal, a line each in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def steps(name: str) -> Iterator[Callable[[str], None]]:
    """A function that shows each step of `name`."""
    from rich.console import Console
    from rich.markup import escape

    from edgec.workers.log import terminal

    with terminal() as stream:
        console = Console(file=stream)
        with console.status(name) as status:

            def progress(step: str) -> None:
                status.update(escape(step))
                if not console.is_terminal:
                    console.print(step, highlight=False, markup=False, soft_wrap=True)

            yield progress
