"""Signals to stop (Ctrl-C, SIGTERM, SIGHUP), which wait while something is done that must not stay half done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 1.0
"""Seconds after a signal to stop within which others are taken for the same: a shell that stops a process group, or a
wrapper such as ``timeout``, sends several."""


class Notice:
    """When Python last noticed a signal to stop; native code that runs for long keeps it from that."""

    last = float("-inf")
    """By `time.monotonic`."""


@contextmanager
def stops_held() -> Iterator[None]:
    """Let signals to stop wait until the end, for work of less than a second: they act then.

    One that comes `PATIENCE` after another acts at once. Python runs handlers in the main thread only, so that in
    another thread there is nothing to hold.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    arrived: list[tuple[int, float]] = []

    def note(number: int, frame: FrameType | None) -> None:
        now = Notice.last = time.monotonic()
        arrived.append((number, now))
        handler = handlers[signal.Signals(number)]
        if now - arrived[0][1] > PATIENCE and callable(handler):
            handler(number, frame)

    held = {number: handler for number, handler in handlers.items() if callable(handler) or handler == signal.SIG_DFL}
    try:
        for number in held:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0][0])
