"""Interleaved timing: every contestant once a round, in an order that turns, and the ratios within each round."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WARM_CALLS = 3
"""Before each contestant's turn: the caches hold what ran before."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """How a pair of contestants compares over all rounds."""

    median: float
    low: float
    high: float
    """95 % bootstrap interval of the median."""
    p10: float
    p90: float
    """Of the rounds' ratios."""


def interleave(
    contestants: Mapping[str, tuple[Callable[[], None], Callable[[], object]]], rounds: int, calls: int
) -> dict[str, list[float]]:
    """Times in milliseconds: for each contestant, the median call of each round.

    Args:
        contestants: name -> what to do before its turn, and the call.
        rounds: rounds.
        calls: timed calls in a turn.
    """
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                prepare, call = contestants[name]
                prepare()
                times[name].append(_turn(call, calls))
    finally:
        gc.enable()
    return times


def _turn(call: Callable[[], object], calls: int) -> float:
    for _ in range(WARM_CALLS):
        call()
    taken = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        taken.append(time.perf_counter_ns() - began)
    return float(np.median(taken)) / 1e6


def compare(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Ours over theirs, round by round."""
    ratios = np.array(ours) / np.array(theirs)
    random = np.random.default_rng(0)
    medians = np.median(random.choice(ratios, (_RESAMPLES, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    p10, middle, p90 = np.percentile(ratios, (10, 50, 90))
    return Ratio(float(middle), float(low), float(high), float(p10), float(p90))
