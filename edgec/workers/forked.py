"""Workers are forked by a server that has imported what they need: one server for each environment."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

LONGEST = 1 << 13
"""Bytes of a message between a server and its parent."""
SERVERS = 3
"""Kept by a process: one that is left over ends when its last worker has."""
_Key = tuple[tuple[str, ...], frozenset[tuple[str, str]]]


class Forked:
    """A worker's process.

    Args:
        process: its id.
        status: where its exit code arrives.
        running: ids of all that have not ended, of which it is one until then.
    """

    def __init__(self, process: int, status: int, running: set[int]) -> None:
        self.pid = process
        self._status = status
        self._running = running
        running.add(process)

    def wait(self) -> int:
        """Its exit code, once it has ended; negative for a signal. To be called once."""
        with os.fdopen(self._status) as status:
            code = status.read()
        self._running.discard(self.pid)
        return int(code) if code else -signal.SIGKILL  # its server was killed, and took it along


class _Server:
    def __init__(self, modules: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._parent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = str(theirs.fileno())
        command = [sys.executable, "-P", "-X", "faulthandler", "-m", "edgec.workers.fork_server", number, *modules]
        try:
            with theirs, log.open("ab") as sink:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    pass_fds=(theirs.fileno(),),
                    env=environment,
                    start_new_session=True,
                )
        except BaseException:
            self._parent.close()
            raise
        self._lock = threading.Lock()
        self._running: set[int] = set()

    def fork(self, request: Mapping[str, str], files: Sequence[int]) -> Forked | None:
        """A worker; None when the server is gone."""
        status, exit_code = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._parent, [json.dumps(request).encode()], [*files, exit_code])
                answer = self._parent.recv(LONGEST)
        except OSError:
            answer = b""
        finally:
            os.close(exit_code)
        if answer:
            return Forked(int(answer), status, self._running)
        os.close(status)
        self.process.wait()
        return None

    def end(self) -> None:
        """Let it end with its last worker; no request follows."""
        with contextlib.suppress(OSError):
            self._parent.send(b"end")
        threading.Thread(target=self._wait, daemon=True).start()

    def kill(self) -> None:
        """End it now, and its workers with all that they have started."""
        for number in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(number, signal.SIGKILL)
        self.process.kill()

    def _wait(self) -> None:
        self.process.wait()
        self._parent.close()


_lock = threading.Lock()
_servers: dict[_Key, _Server] = {}


@atexit.register
def kill_workers() -> None:
    """End all workers and their servers now."""
    for server in _servers.values():
        server.kill()
    for server in _servers.values():
        server.process.wait()


def prepare(modules: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    """Start the server of `fork`, which imports while its parent does other things.

    Args:
        modules, environment, log: as of `fork`.

    Raises:
        OSError: no process can be started.
    """
    _server(modules, environment, log)


def fork(
    modules: Sequence[str], environment: Mapping[str, str], private: Path, files: Sequence[int], log: Path
) -> Forked:
    """A process that serves as `edgec.workers.process` says, with `modules` imported.

    Args:
        modules: what it is to have imported.
        environment: of the process.
        private: its folder of requests and answers.
        files: its orders, its report and its log.
        log: gets what importing prints.

    Raises:
        OSError: no process can be started, or the server ends while it imports.
    """
    request = {"private": str(private), "folder": os.getcwd(), "temporary": environment.get("TMPDIR", "")}
    for _ in range(2):
        key, server = _server(modules, environment, log)
        if process := server.fork(request, files):
            return process
        with _lock:
            if _servers.get(key) is server:
                del _servers[key]
    raise OSError(f"it ended with exit code {server.process.returncode} while it imported {', '.join(modules)}")


def _server(modules: Sequence[str], environment: Mapping[str, str], log: Path) -> tuple[_Key, _Server]:
    environment = {name: value for name, value in environment.items() if name != "TMPDIR"}  # each worker's own
    key = (tuple(modules), frozenset(environment.items()))
    with _lock:
        server = _servers.pop(key, None)
        if server is None or server.process.poll() is not None:
            server = _Server(modules, environment, log)
        _servers[key] = server  # the newest last
        while len(_servers) > SERVERS:
            _servers.pop(next(iter(_servers))).end()
    return key, server
