"""Builds that send themselves a signal at one of their file operations; run as a program.

Arguments: the folder of a project, a folder for its copies, and ``number:when`` or ``number:when:signal`` for each
build, ``when`` being "before" or "after" that operation of the main process, counted from 1; or "seconds" after its
begin. Each build and each of its fork servers is a process that is forked by this one, which has imported what they
import. For each build a line of JSON is printed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch  # noqa: F401

import edgec.backends.example.emit
import edgec.build.build
import edgec.cli.build
import edgec.ladder.compiler
import edgec.model.load
import edgec.verify.reference  # noqa: F401
from edgec.cli.main import main
from edgec.errors import StoppedError
from edgec.storage import staging
from edgec.storage.cache import CACHE_VARIABLE
from edgec.workers import fork_server

OPERATIONS = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir")
COMMAND = ("build", "--target", "small", "--calibration-samples", "32", "-j", "1")


class Shim:
    """Counts operations, and sends the signal at one of them."""

    def __init__(self, number: int, when: str, what: int, report: Path) -> None:
        self._number, self._when, self._what, self._report = number, when, what, report
        self._count = 0

    def install(self) -> None:
        for name in OPERATIONS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        staging._exchange = self._wrapped("exchange", staging._exchange)

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self._count += 1
            here = self._count == self._number
            self._report.write_text(json.dumps({"count": self._count}))
            if here:
                self._report.with_suffix(".at").write_text(f"{name} {arguments[0]}")
            if here and self._when == "before":
                os.kill(os.getpid(), self._what)
            try:
                return function(*arguments, **options)
            finally:
                if here and self._when == "after":
                    os.kill(os.getpid(), self._what)

        return call


class Server:
    """A fork server as `subprocess.Popen` starts it, but forked: its imports take most of a build's time."""

    def __init__(
        self, command: list[str], *, stdout: IO[bytes], pass_fds: tuple[int], env: Mapping[str, str], **options: Any
    ) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for stream in (1, 2):
                os.dup2(stdout.fileno(), stream)
            for file in list(Path("/proc/self/fd").iterdir()):
                if int(file.name) not in (0, 1, 2, *pass_fds):
                    with contextlib.suppress(OSError):
                        os.close(int(file.name))
            os.environ.clear()
            os.environ.update(env)
            fork_server.main(*command[command.index("edgec.workers.fork_server") + 1 :])
        finally:
            os._exit(1)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def build(root: Path, number: int, when: str, what: int) -> None:
    """Become a build of the project in `root`."""
    os.setsid()
    os.chdir(root)
    os.environ |= {CACHE_VARIABLE: str(root / "cache"), "TMPDIR": str(root / "tmp")}
    log = os.open(root.with_suffix(".output"), os.O_WRONLY | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(log, stream)
    sys.argv[1:] = COMMAND
    subprocess.Popen = Server  # type: ignore[assignment, misc]
    Shim(number, when, what, root.with_suffix(".json")).install()
    main()


def run(project: Path, copies: Path, stop: str) -> dict[str, Any]:
    number, when, *named = stop.split(":")
    root = copies.absolute() / stop.translate({ord(":"): "-", ord("."): "-"})
    shutil.copytree(project, root)
    (root / "tmp").mkdir()
    began = time.monotonic()
    what = signal.Signals[named[0] if named else "SIGINT"]
    child = os.fork()
    if not child:
        try:
            build(root, -1 if when == "seconds" else int(number), when, what)
        except KeyboardInterrupt:  # before there is a handler
            os._exit(StoppedError.exit_code)
        except SystemExit as leave:
            sys.stdout.flush()
            atexit._run_exitfuncs()
            os._exit(leave.code if isinstance(leave.code, int) else 1)
        finally:
            os._exit(99)
    timer = threading.Timer(float(number), os.kill, (child, what))
    if when == "seconds":
        timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    code = os.waitstatus_to_exitcode(status)
    if when == "seconds":
        timer.join()
        if code:
            root.with_suffix(".at").write_text("a moment")
    at, counted = root.with_suffix(".at"), root.with_suffix(".json")
    return {
        "stop": stop,
        "root": str(root),
        "code": code,
        "at": at.read_text() if at.exists() else "",
        "seconds": time.monotonic() - began,
        "output": root.with_suffix(".output").read_text(),
        "count": json.loads(counted.read_text())["count"] if counted.exists() else 0,
    }


if __name__ == "__main__":
    for item in sys.argv[3:]:
        print(json.dumps(run(Path(sys.argv[1]), Path(sys.argv[2]), item)), flush=True)
