"""Lines, tables and steps on standard error: steps in one place on a terminal, a line each in a log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from edgec.errors import printable_lines
from edgec.workers.log import terminal

LOG_WIDTH = 160
"""Columns of tables that go to a file or a pipe, as in CI."""


class SafeConsole(Console):
    """A console that escapes what a terminal would act on in all text that it is given, cells of tables included."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's."""
        return super().render_str(printable_lines(text), **options)


def console_on(stream: TextIO) -> Console:
    """A console for tables, which are wide where `stream` is not a terminal."""
    return SafeConsole(file=stream, width=None if stream.isatty() else LOG_WIDTH)


@contextmanager
def terminal_console() -> Iterator[Console]:
    """A console on the real standard error (`edgec.workers.log.terminal`)."""
    with terminal() as stream:
        yield console_on(stream)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: neither markup nor breaks of long lines."""
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def steps(console: Console, name: str, before: str = "") -> Iterator[Callable[[str], None]]:
    """A function that shows each step of `name`, with `before` in front of it."""
    with console.status(name) as status:

        def progress(step: str) -> None:
            status.update(escape(printable_lines(before + step)))
            if not console.is_terminal:
                say(console, before + step)

        yield progress
