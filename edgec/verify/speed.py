"""The worker task that times an artifact against its float32 twin, turn by turn, in one process."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backend.protocol import Artifact, Runner
from edgec.backend.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.model.spec import Tensors
from edgec.verify.records import Latency, Speed
from edgec.worker import Progress

MAX_SECONDS = 20.0
"""Timing ends after this long, once `MIN_RUNS` are done: a slow model must not hold up the build."""
MIN_RUNS = 10


def time_artifacts(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Batch-1 latency of an artifact and, where it has one, its float twin's (an `edgec.worker` task).

    Args:
        payload: ``artifacts`` (one or two of ``artifact``, a record, and ``file``; the twin is the second),
            ``runtime``, ``spool`` (folder; its first sample is run), ``threads``, ``warmup``, ``runs`` (0: not timed).
        progress: told the name of each step.

    Returns:
        ``latency`` (`Latency` as JSON text, or None) and ``speed`` (`Speed` as JSON text, or None).
    """
    runs = int(payload["runs"])
    if not runs:
        return {"latency": None, "speed": None}
    progress(f"time in {payload['runtime']}")
    runners: list[Runner] = []
    for number, one in enumerate(payload["artifacts"]):
        artifact = Artifact.model_validate_json(one["artifact"])
        try:
            runner = get_backend(artifact.backend).runner(
                artifact, Path(one["file"]), payload["runtime"], payload["threads"]
            )
        except Exception:  # a runtime that does not take the float twin leaves the artifact to be timed alone
            if not number:
                raise
            traceback.print_exc()
        else:
            runners.append(runner)
    sample = Spool(Path(payload["spool"]))[0]
    times = in_turns(runners, sample, warmup=int(payload["warmup"]), runs=runs)
    p50, p90 = np.percentile(times[0], (50, 90))
    latency = Latency(p50_ms=float(p50), p90_ms=float(p90), runs=len(times[0]), threads=payload["threads"])
    speed = None
    if len(times) > 1:
        ratios = times[1] / times[0]
        low, middle, high = np.percentile(ratios, (10, 50, 90))
        speed = Speed(
            ratio=float(middle), low=float(low), high=float(high), float_ms=float(np.median(times[1])), runs=len(ratios)
        )
    return {"latency": latency.model_dump_json(), "speed": speed.model_dump_json() if speed else None}


def in_turns(
    runners: Sequence[Runner], sample: Tensors, *, warmup: int, runs: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Milliseconds of each run, copies in and out included, shape (runners, runs); one run of each a round.

    Within a round the order changes from round to round, so that none always follows the same other.
    """
    for runner in runners:
        for _ in range(warmup):
            runner(sample)
    rounds: list[list[float]] = []
    with _no_collection():
        deadline = time.perf_counter() + MAX_SECONDS
        while len(rounds) < runs and (len(rounds) < MIN_RUNS or time.perf_counter() < deadline):
            order = list(range(len(runners)))
            shift = len(rounds) % len(runners)
            taken = [0.0] * len(runners)
            for index in (*order[shift:], *order[:shift]):
                began = time.perf_counter_ns()
                runners[index](sample)
                taken[index] = (time.perf_counter_ns() - began) / 1e6
            rounds.append(taken)
    return np.array(rounds, np.float64).T


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
