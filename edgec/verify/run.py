"""The worker task that runs one artifact in one runtime over all samples, times it and audits its ops."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backend.protocol import Artifact, Runner
from edgec.backend.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, UnsupportedError
from edgec.model.spec import Tensors
from edgec.verify.outputs import OutputWriter
from edgec.verify.records import Latency
from edgec.worker import Progress

MAX_TIMING_SECONDS = 20.0
"""Timing ends after this long, once `MIN_RUNS` are done: a slow model must not hold up the build."""
MIN_RUNS = 10


def run_artifact(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Run an artifact (an `edgec.worker` task).

    Args:
        payload: ``artifact`` (record, as JSON text or values), ``file``, ``runtime``, ``spool`` and ``out`` (folders),
            ``threads``, ``warmup`` and ``runs``; with ``runs`` 0 it is not timed.
        progress: told the name of each step.

    Returns:
        ``outputs`` (output name -> .npy of shape (samples, *output shape)), ``ops`` (`OpRecord`s), ``latency``
        (`Latency` or None), ``failure`` (why the runtime cannot run the artifact; all else is then empty).
    """
    record = payload["artifact"]
    artifact = Artifact.model_validate_json(record if isinstance(record, str) else json.dumps(record))
    spool = Spool(Path(payload["spool"]))
    threads = int(payload["threads"])
    runtime = str(payload["runtime"])
    try:
        progress(f"load in {runtime}")
        runner = get_backend(artifact.backend).runner(artifact, Path(payload["file"]), runtime, threads)
        progress(f"run {len(spool)} samples in {runtime}")
        outputs = _run_samples(runner, spool, artifact, Path(payload["out"]))
        progress(f"time in {runtime}")
        latency = time_runner(runner, spool[0], threads, payload["warmup"], payload["runs"])
        progress(f"read the ops in {runtime}")
        ops = [item.model_dump(mode="json") for item in runner.ops()]
    except UnsupportedError as error:
        return {"outputs": {}, "ops": [], "latency": None, "failure": str(error)}
    except EdgecError:
        raise
    except Exception as exc:  # whatever a runtime raises over an artifact is what is to be found out here
        traceback.print_exc()
        return {"outputs": {}, "ops": [], "latency": None, "failure": f"{type(exc).__name__}: {exc}"}
    return {
        "outputs": outputs,
        "ops": ops,
        "latency": latency.model_dump(mode="json") if latency else None,
        "failure": "",
    }


def _run_samples(runner: Runner, spool: Spool, artifact: Artifact, out: Path) -> dict[str, str]:
    names = [item.name for item in artifact.outputs]
    writer = OutputWriter(out, len(spool))
    for index, sample in enumerate(spool):
        outputs = runner(sample)
        if missing := sorted(set(names) - set(outputs)):
            raise UnsupportedError(f"the runtime gives no output {', '.join(missing)}")
        writer.put(index, {name: outputs[name] for name in names})
    return writer.close()


def time_runner(runner: Runner, sample: Tensors, threads: int, warmup: int, runs: int) -> Latency | None:
    """Batch-1 latency of `runner`, copies in and out included; None when `runs` is 0."""
    if runs <= 0:
        return None
    for _ in range(warmup):
        runner(sample)
    times: list[int] = []
    with _no_collection():
        deadline = time.perf_counter() + MAX_TIMING_SECONDS
        while len(times) < runs and (len(times) < MIN_RUNS or time.perf_counter() < deadline):
            began = time.perf_counter_ns()
            runner(sample)
            times.append(time.perf_counter_ns() - began)
    p50, p90 = np.percentile(times, (50, 90)) / 1e6
    return Latency(p50_ms=float(p50), p90_ms=float(p90), runs=len(times), threads=threads)


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
