"""Signals to stop wait while something must not stay half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from edgec.storage import stops
from edgec.storage.stops import SIGNALS, stops_held


@pytest.fixture
def got() -> Iterator[list[int]]:
    received: list[int] = []
    previous = {number: signal.signal(number, lambda number, frame: received.append(number)) for number in SIGNALS}
    yield received
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_acts_at_the_end(got: list[int], number: signal.Signals) -> None:
    handler = signal.getsignal(number)
    with stops_held():
        with stops_held():
            signal.raise_signal(number)
        assert got == []
    assert got == [number]
    assert signal.getsignal(number) == handler


def test_one_that_comes_later_acts_at_once(got: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    with stops_held():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert got == []
        monkeypatch.setattr(stops, "PATIENCE", -1.0)
        signal.raise_signal(signal.SIGTERM)
        assert got == [signal.SIGTERM]


def test_an_error_and_a_signal_give_back_the_handlers(got: list[int]) -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGHUP)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"), stops_held():
        fail()
    assert got == [signal.SIGHUP]


def test_signals_that_are_ignored_stay_so_and_other_threads_hold_nothing(got: list[int]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stops_held():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    held = threading.Thread(target=lambda: stops_held().__enter__())
    held.start()
    held.join()
    signal.raise_signal(signal.SIGINT)
    assert got == [signal.SIGINT]
