"""A process that has imported what workers need and forks them: each begins at once instead of importing it anew.

It runs no thread and computes nothing, so that a fork of it is as good as a fresh interpreter. Its parent asks for a
worker by the worker's folders and files, and receives the worker's process id, later its exit code. The worker has the
server's environment. When the parent is gone the server kills all workers and ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import warnings

from edgec.workers import process as worker_process
from edgec.workers.forked import LONGEST

FILES = 4
"""Sent with a request: the worker's orders, its report, its log, and where its exit code is written."""


class ForkServer:
    """Forks a worker for each request that arrives on a socket.

    Args:
        parent: connected to the process that asks.
    """

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._running: dict[int, int] = {}
        """Process id of a worker -> where its exit code is written."""
        self._selector = selectors.DefaultSelector()
        self._ends, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._ending = False

    def serve(self) -> None:
        """Until the parent is gone, or has said that it asks no more and all workers have ended."""
        with self._selector:
            for source in (self._parent, self._ends):
                self._selector.register(source, selectors.EVENT_READ)
            while not self._ending or self._running:
                ready = [key.fileobj for key, _ in self._selector.select()]
                if self._ends in ready:
                    os.read(self._ends, LONGEST)
                    self._report_ends()
                if self._parent in ready and not self._answer():
                    self._kill_all()
                    return

    def _answer(self) -> bool:
        message, files, _, _ = socket.recv_fds(self._parent, LONGEST, FILES)
        if not message:
            return False
        if not files:
            self._ending = True
            return True
        orders, report, log, exit_code = files
        server = os.getpid()
        number = os.fork()
        if not number:
            self._running[0] = exit_code
            self._become_worker(json.loads(message), orders, report, log, server)
        with contextlib.suppress(PermissionError):  # it has ended already
            os.setpgid(number, number)  # the worker does so too: whichever comes first
        for file in (orders, report, log):
            os.close(file)
        self._running[number] = exit_code
        self._parent.send(str(number).encode())
        return True

    def _become_worker(self, request: dict[str, str], orders: int, report: int, log: int, server: int) -> None:
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._parent.close()
            for exit_code in self._running.values():
                os.close(exit_code)
            for stream in (1, 2):
                os.dup2(log, stream)
            os.close(log)
            os.chdir(request["folder"])
            if request["temporary"]:
                os.environ["TMPDIR"] = request["temporary"]
            tempfile.tempdir = None
            worker_process.main(request["private"], str(orders), str(report), str(server))
        finally:
            os._exit(1)

    def _report_ends(self) -> None:
        for number in list(self._running):
            ended, status = os.waitpid(number, os.WNOHANG)
            if ended:
                file = self._running.pop(number)
                with contextlib.suppress(OSError):  # the parent does not wait for it any more
                    os.write(file, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(file)

    def _kill_all(self) -> None:
        for number in self._running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)


def main(connection: str, *modules: str) -> None:
    """Import `modules`, as far as they are installed, then serve."""
    for name in modules:
        with contextlib.suppress(ImportError):  # the worker that needs it reports that
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a worker's collections leave the shared pages alone
    warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
    ForkServer(socket.socket(fileno=int(connection))).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
