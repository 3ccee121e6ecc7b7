"""The worker task that times an artifact against its float32 twin, turn by turn, in one process."""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np

from edgec.backends.interface import OpTime, OpTimer, Runner
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.model.spec import Tensors
from edgec.verify.blame import Profile, slow_ops
from edgec.verify.records import Latency, Speed
from edgec.verify.requests import TimingAnswer, TimingRequest
from edgec.workers.worker import Progress

MAX_SECONDS = 6.0
"""Timing ends after this long, once `MIN_ROUNDS` are done: a slow model must not hold up the build."""
MIN_ROUNDS = 6
"""Of so few values the least and the greatest hold the median in 97 % of cases."""
SLOW_MS = 50.0
"""A run that takes longer finds nothing in the caches that a neighbour's turn could have displaced."""
ENOUGH_ROUNDS = 20
TURN_MS = 5.0
"""A turn holds as many runs as this has room for: what a neighbour's turn left in the caches soon stops to matter."""
MOST_RUNS = 200
"""Of one turn."""
PROFILED_RUNS = 20

Times = np.ndarray[Any, np.dtype[np.float64]]


def time_artifacts(request: TimingRequest, progress: Progress) -> TimingAnswer:
    """Batch-1 latency of an artifact and, where it has one, its float twin's (a task of `edgec.workers.worker`).

    Args:
        request: what to time.
        progress: called with the name of each step.

    Raises:
        UnsupportedError: the runtime refuses the artifact.
    """
    if not request.runs:
        return TimingAnswer()
    runners: list[Runner] = []
    for number, (artifact, file) in enumerate((item.artifact, item.file) for item in request.artifacts):
        progress(f"time {artifact.precision} in {request.runtime}")
        try:
            runner = get_backend(artifact.backend).runner(artifact, file, request.runtime, request.threads)
        except Exception:  # a runtime that does not take the float twin leaves the artifact to be timed alone
            if not number:
                raise
            traceback.print_exc()
        else:
            runners.append(runner)
    sample = Spool(request.spool)[0]
    times = in_turns(runners, sample, warmup=request.warmup, runs=request.runs)
    p50, p90 = np.percentile(times[0], (50, 90))
    latency = Latency(
        p50_ms=float(p50),
        p90_ms=float(p90),
        runs=times[0].size,
        threads=request.threads,
        taken=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    )
    if len(times) == 1:
        return TimingAnswer(latency=latency)
    speed = compare_turns(times[0], times[1])
    if speed.slower:
        progress("find the ops that cost most")
        own, twin = (_profile(runner, sample) for runner in runners)
        speed = speed.model_copy(update={"blame": slow_ops(own, twin), "times_ops": own.times is not None})
    return TimingAnswer(latency=latency, speed=speed)


def in_turns(runners: Sequence[Runner], sample: Tensors, *, warmup: int, runs: int) -> Times:
    """Milliseconds of each run, copies in and out included, shape (runners, rounds, runs of a turn).

    In each round every runner has one turn: a run that is not counted (but of slow models), then some that are, the
    same number for all.
    The order changes from round to round, so that none always follows the same other.

    Args:
        runners: what to time.
        sample: what they are run on.
        warmup: runs of each before the first round, at least two; two of a slow model.
        runs: counted runs of each, where the time suffices; some more for models so fast that rounds would be few.
    """
    fastest = math.inf
    for runner in runners:
        taken = _timed(runner, sample, 2)
        if min(taken) < SLOW_MS:
            taken += _timed(runner, sample, warmup - 2)
        fastest = min(fastest, float(np.median(taken)))
    uncounted = int(fastest < SLOW_MS)
    counted = max(1, min(MOST_RUNS, runs, round(TURN_MS / max(fastest, 1e-6))))
    wanted = max(ENOUGH_ROUNDS if counted > 1 else 1, math.ceil(runs / counted))
    rounds: list[list[list[float]]] = []
    with _no_collection():
        deadline = time.perf_counter() + MAX_SECONDS
        while len(rounds) < wanted and (len(rounds) < MIN_ROUNDS or time.perf_counter() < deadline):
            shift = len(rounds) % len(runners)
            turns: list[list[float]] = [[] for _ in runners]
            for index in (*range(shift, len(runners)), *range(shift)):
                turns[index] = _timed(runners[index], sample, counted + uncounted)[uncounted:]
            rounds.append(turns)
    return np.array(rounds, np.float64).swapaxes(0, 1)


def compare_turns(artifact: Times, twin: Times) -> Speed:
    """How much faster the artifact is, from times of shape (rounds, runs of a turn).

    A turn stands for its median, and both turns of a round for one ratio: whatever slows the machine for longer than
    a round slows both. The interval is that of a median by order statistics (David and Nagaraja 2003, section 7.1).
    """
    ratios = np.sort(np.median(twin, axis=1) / np.median(artifact, axis=1))
    beyond = _beyond_interval(len(ratios))
    return Speed(
        ratio=float(np.median(ratios)),
        low=float(ratios[beyond]),
        high=float(ratios[-1 - beyond]),
        float_ms=float(np.median(twin)),
        runs=len(ratios),
    )


def _beyond_interval(count: int) -> int:
    """Of `count` sorted values, how many at each end are outside the 95 % interval of the median."""
    chance, below = 0.0, 0
    while below < count // 2:
        chance += math.comb(count, below) / 2**count
        if chance > 0.025:
            break
        below += 1
    return max(0, below - 1)


def _timed(runner: Runner, sample: Tensors, runs: int) -> list[float]:
    taken = []
    for _ in range(runs):
        began = time.perf_counter_ns()
        runner(sample)
        taken.append((time.perf_counter_ns() - began) / 1e6)
    return taken


def _profile(runner: Runner, sample: Tensors) -> Profile:
    times: Sequence[OpTime] | None = None
    if isinstance(runner, OpTimer):
        try:
            times = runner.op_times(sample, PROFILED_RUNS)
        except Exception:  # a profiler that fails leaves the ops to be named without times
            traceback.print_exc()
    return Profile(runner.ops(), times)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection inside, which would show up as latency."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
