"""What signals to stop do to a run, whatever happens meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edgec.cli import main as module
from edgec.cli.main import run
from edgec.errors import InternalError, ModelError, StoppedError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Runs a function as a verb; returns the exit code."""

    def runs(function: Callable[[], object]) -> int:
        command = click.Command("acts", callback=function)
        monkeypatch.setattr(module.cli, "main", lambda *args, **options: command.main([], standalone_mode=False))
        return run([])

    return runs


Verb = Callable[[Callable[[], object]], int]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_stops(verb: Verb, capsys: pytest.CaptureFixture[str], number: signal.Signals) -> None:
    before = signal.getsignal(number)
    assert verb(lambda: signal.raise_signal(number)) == StoppedError.exit_code
    assert "error: stopped" in capsys.readouterr().err
    assert signal.getsignal(number) == before


def test_an_error_while_it_stops_is_not_a_defect(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise OSError("the terminal is gone")

    assert verb(act) == StoppedError.exit_code
    assert "defect" not in capsys.readouterr().err


def test_a_stop_that_code_swallows_is_one(verb: Verb) -> None:
    def act() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            return

    assert verb(act) == StoppedError.exit_code


def test_a_stop_in_a_destructor_is_repeated(verb: Verb) -> None:
    class Loud:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def act() -> None:
        loud = Loud()
        del loud
        signal.pause()
        raise ModelError("it went on")

    assert verb(act) == StoppedError.exit_code


def test_nohup_is_respected(verb: Verb) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert verb(lambda: signal.raise_signal(signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


LATE = """
import atexit, os, signal
from edgec.cli import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
main.cli.main = lambda *arguments, **options: 0
main.main()
"""


def test_a_signal_after_the_end_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_defect_has_a_log_where_no_other_user_can_write(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        raise ZeroDivisionError("by far")

    assert verb(act) == InternalError.exit_code
    errors = capsys.readouterr().err
    log = next(Path(word.rstrip(".,)")) for word in errors.split() if f"edgec-{os.getuid()}/logs/internal-" in word)
    assert "ZeroDivisionError: by far" in log.read_text()
    log.unlink()
