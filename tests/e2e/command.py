"""Running the real `edgec` command."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from edgec.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
EDGEC = Path(sys.executable).with_name("edgec")


@dataclass(frozen=True)
class Run:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str


def environment() -> dict[str, str]:
    """The tests' environment, one thread per process, plain terminal."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def command() -> list[str]:
    """The command without arguments; where pytest measures coverage, its main process is measured too."""
    coverage = sys.modules.get("coverage")
    if coverage is None or coverage.Coverage.current() is None:
        return [str(EDGEC)]
    settings = [f"--rcfile={ROOT / 'pyproject.toml'}", f"--data-file={ROOT / 'build' / 'coverage' / 'data'}"]
    return [sys.executable, "-P", "-m", "coverage", "run", "--parallel-mode", *settings, str(EDGEC)]


def edgec(*arguments: str, cwd: Path, timeout: float = 300) -> Run:
    """Run `edgec` to its end."""
    done = subprocess.run(
        [*command(), *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def edgec_here(*arguments: str, cwd: Path) -> Run:
    """Run `edgec` to its end in this process, whose workers import a framework once for all commands.

    For commands that do little: refusals, and verbs that read a bundle. Tests of builds take `edgec`.
    """
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        stack.enter_context(contextlib.chdir(cwd))
        for name, value in environment().items():
            patch.setenv(name, value)
        output, errors = (stack.enter_context(_captured(number, name)) for number, name in enumerate(STREAMS, 1))
        code = run(arguments)
        return Run(code, _text(output), _text(errors))


STREAMS = ("stdout", "stderr")


@contextlib.contextmanager
def _captured(number: int, name: str) -> Iterator[IO[bytes]]:
    """A file that receives what is written to a standard stream, by Python or by its file number."""
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        getattr(sys, name).flush()
        before = os.dup(number)
        os.dup2(file.fileno(), number)
        with open(os.dup(number), "w", encoding="utf-8", buffering=1) as stream:  # noqa: PTH123 - of a file number
            patch.setattr(sys, name, stream)
            try:
                yield file
            finally:
                os.dup2(before, number)
                os.close(before)


def _text(file: IO[bytes]) -> str:
    for name in STREAMS:
        getattr(sys, name).flush()
    file.seek(0)
    return file.read().decode()


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start `edgec` in a process group of its own."""
    return subprocess.Popen(
        [*command(), *arguments], cwd=cwd, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def workers(parent: int) -> list[int]:
    """Process ids of the workers that build `parent` has started: the children of its fork servers."""
    servers = [number for number in _children(parent) if b"edgec.workers.fork_server" in _read(number, "cmdline")]
    return [number for server in servers for number in _children(server)]


def _children(parent: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{parent}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _read(process: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{process}/{file}").read_bytes()
    except OSError:  # it has ended
        return b""
