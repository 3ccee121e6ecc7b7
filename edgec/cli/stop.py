"""What signals to stop do to a run: Ctrl-C, SIGTERM and SIGHUP end it in order, within a second."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from edgec.errors import StoppedError
from edgec.storage.stops import PATIENCE, SIGNALS, Notice

_NATIVE = 0.4
"""Seconds within which Python notices a signal, unless native code keeps it from that."""
_AGAIN = 0.02
"""Seconds after which a stop is repeated that a destructor has swallowed."""


class Stop:
    """Handler of the signals: the first ends the run in order, one that comes later ends it at once.

    Where the main thread is in native code for long, another thread ends the run.
    """

    def __init__(self) -> None:
        self.by = ""
        """For messages: " by SIGTERM"; empty for Ctrl-C."""
        self.ended = False
        """Whether there is nothing more to interrupt: the run is over, and only cleans up."""
        self._began: float | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._unraisable = sys.unraisablehook

    @property
    def wanted(self) -> bool:
        """Whether a signal to stop came before the run was over."""
        return self._began is not None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal, in the main thread."""
        now = Notice.last = time.monotonic()
        if self._began is not None:
            if now - self._began > PATIENCE:
                os._exit(StoppedError.exit_code)  # processes die with this one, and the next run removes its folders
        elif not self.ended:
            self._began = now
            self.by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
            raise KeyboardInterrupt  # no EdgecError: what goes on after one must not go on after this

    def install(self) -> None:
        """Handle signals from now on; SIGHUP stays ignored where ``nohup`` says so."""
        self._previous = {number: signal.getsignal(number) for number in SIGNALS}
        if self._previous[signal.SIGHUP] == signal.SIG_IGN:
            del self._previous[signal.SIGHUP]
        sys.unraisablehook = self._unraised
        self._terminal = os.dup(2)  # which may go to a log by then
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(woken,), daemon=True).start()
        for number in self._previous:
            signal.signal(number, self)

    def remove(self) -> None:
        """Handle signals as before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._unraisable
        os.close(signal.set_wakeup_fd(-1))
        os.close(self._terminal)

    def _watch(self, woken: int) -> None:
        """End the process where the main thread does not notice a signal."""
        with os.fdopen(woken, "rb", buffering=0) as signals:
            while number := signals.read(1):
                came = time.monotonic()
                if number[0] in self._previous:
                    time.sleep(_NATIVE)
                    if Notice.last < came - _NATIVE:
                        self._end()

    def _end(self) -> None:
        from edgec.storage.temporary import remove_private_folders
        from edgec.workers.forked import kill_workers

        with contextlib.suppress(OSError):
            os.write(self._terminal, b"\nedgec: error: stopped in native code; no unfinished bundle was left\n")
        kill_workers()
        remove_private_folders()
        os._exit(StoppedError.exit_code)

    def _unraised(self, unraisable: sys.UnraisableHookArgs) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._unraisable(unraisable)
            return
        self._began = None
        main = threading.main_thread().ident
        assert main is not None
        again = threading.Timer(_AGAIN, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()
