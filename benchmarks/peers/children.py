"""Builds in child processes, with their wall time and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
_INTERVAL = 0.05


@dataclass(frozen=True)
class Cost:
    """What a build took."""

    seconds: float
    peak_mb: float
    """Largest sum of resident memory over the process and its children at one time; pages they share count twice."""


def run(arguments: Sequence[str], folder: Path, log: Path, core: int) -> Cost:
    """Run ``python arguments`` in `folder`, with one thread on one core.

    Raises:
        SystemExit: it failed; the message ends with what it said.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with log.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=stream, stderr=stream
        )
        os.sched_setaffinity(child.pid, {core})
        peaks = [0]
        watcher = threading.Thread(target=_watch, args=(child, peaks))
        watcher.start()
        code = child.wait()
        seconds = time.perf_counter() - began
        watcher.join()
    if code:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{log.read_text(errors='replace')[-3000:]}")
    return Cost(seconds, peaks[0] / 2**20)


def _watch(child: subprocess.Popen[bytes], peaks: list[int]) -> None:
    root = psutil.Process(child.pid)
    while child.poll() is None:
        total = 0
        try:
            for process in (root, *root.children(recursive=True)):
                total += process.memory_info().rss
        except psutil.NoSuchProcess:
            pass  # it ended meanwhile; what was summed up so far stands
        peaks[0] = max(peaks[0], total)
        time.sleep(_INTERVAL)
