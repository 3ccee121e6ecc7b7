"""Progress with counts, and the time left by what the steps so far have taken."""

from __future__ import annotations

import time
from collections.abc import Callable

CACHED_SECONDS = 0.01
"""A step that took less was in the cache, and says nothing about the next ones."""


class Steps:
    """Steps of about equal length.

    Args:
        progress: receives each step.
        total: number of steps.
        at_most: whether there may be fewer.
    """

    def __init__(self, progress: Callable[[str], None], total: int, *, at_most: bool = False) -> None:
        self._progress, self.total, self._at_most = progress, total, at_most
        self.done = self._measured = 0
        self._spent = self._began = 0.0

    @property
    def left(self) -> int:
        """Steps that may still be taken."""
        return self.total - self.done

    def next(self, subject: str) -> Steps:
        """The step that begins now, as a context."""
        left = ""
        if self._measured:
            seconds = self._spent / self._measured * self.left
            left = f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"
        most = "at most " if self._at_most else ""
        self._progress(f"{self.done + 1} of {most}{self.total}: {subject}{left}")
        return self

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        taken = time.monotonic() - self._began
        self.done += 1
        if taken > CACHED_SECONDS:
            self._spent += taken
            self._measured += 1
