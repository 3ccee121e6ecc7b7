"""Keeping toolchain noise out of the terminal: file descriptors 1 and 2 go to a log file for a while."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def terminal() -> TextIO:
    """A text stream on the real standard error, which `captured` does not redirect."""
    return os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)


@contextmanager
def captured(log: Path) -> Iterator[None]:
    """Send everything that this process writes to stdout or stderr, native code included, to the end of `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), saved, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
