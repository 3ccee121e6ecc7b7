"""Times and memory of finished artifacts, one after the other, when nothing else of the sweep runs.

An artifact has its turns beside the unpruned float32 artifact of its format, in one process that is pinned to as many
cores as it has threads. Two sweeps on one machine wait for each other here.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError
from edgec.frozen import digest_json
from edgec.machine import host_machine
from edgec.storage.cache import Cache, code_digest
from edgec.storage.guard import guarded
from edgec.storage.own_folder import own_folder
from edgec.sweep.store import SAMPLE, CellArtifact
from edgec.target.spec import BenchSpec
from edgec.verify.records import Latency, Speed
from edgec.verify.requests import ArtifactFile, TimingAnswer, TimingRequest
from edgec.verify.run import imports_of
from edgec.verify.speed import time_artifacts
from edgec.workers.records import Done
from edgec.workers.worker import Progress, WorkerOptions, call


@dataclass(frozen=True)
class Timed:
    """What is known of an artifact's cost; None: not measured, for `reason`."""

    latency: Latency | None = None
    speed: Speed | None = None
    """Against the float artifact; None for that itself, and where it cannot run."""
    memory_mb: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Placed:
    """An artifact and the folder of its cell."""

    made: CellArtifact
    folder: Path

    @property
    def file(self) -> ArtifactFile:
        """As worker tasks take it."""
        return ArtifactFile(artifact=self.made.artifact, file=self.folder / self.made.artifact.file)


class PinnedTiming(TimingRequest):
    """A request of `time_pinned` and `run_once`."""

    cores: tuple[int, ...]
    """Numbers of the CPU cores to run on."""


class _Times(TimingAnswer):
    """What is kept of a timing."""

    memory_mb: float


class Timer:
    """Times artifacts, each once: results are kept by its digest.

    Args:
        cache: results of earlier runs.
        log: receives what processes print.
    """

    def __init__(self, cache: Cache, log: Path) -> None:
        self._cache, self._log = cache, log

    def time(
        self, one: Placed, beside: Placed | None, runtime: tuple[str, str], bench: BenchSpec, progress: Progress
    ) -> Timed:
        """Time one artifact.

        Args:
            one: the artifact.
            beside: the float artifact of the same format; None: there is none, or it is `one`.
            runtime: name and version.
            bench: threads, warm-up and runs.
            progress: called with each step.
        """
        try:
            value = self._times(one, beside, runtime, bench, progress)
        except EdgecError as error:
            return Timed(reason=f"not timed: {error.what}")
        except (OSError, ValueError) as error:
            return Timed(reason=f"not timed: {type(error).__name__}: {error}")
        return Timed(
            value.latency,
            value.speed,
            value.memory_mb,
            "" if value.speed or beside is None else f"the float artifact does not run in {runtime[0]}",
        )

    def _times(
        self, one: Placed, beside: Placed | None, runtime: tuple[str, str], bench: BenchSpec, progress: Progress
    ) -> _Times:
        """What is known from earlier runs, or is measured now."""
        key = self._key(one, beside, runtime, bench)
        value = self._cache.get(key)
        if value is None:
            with _alone(progress):
                value = self._cache.get(key)  # another sweep may have measured it meanwhile
                if value is None:
                    value = self._measure(one, beside, runtime[0], bench, progress).plain()
                    self._cache.keep(key, value)
        return _Times.model_validate_json(json.dumps(value))

    def _key(self, one: Placed, beside: Placed | None, runtime: tuple[str, str], bench: BenchSpec) -> str:
        backend = type(get_backend(one.made.artifact.backend)).__module__
        machine = host_machine().model_dump(mode="json", exclude={"cores"})
        return digest_json(
            {
                "what": "sweep timing",
                "artifacts": [
                    [item.made.sha256, item.made.artifact.digest()] for item in (one, beside) if item is not None
                ],
                "sample": Spool(one.folder / SAMPLE).info.content_digest,
                "runtime": runtime,
                "bench": bench.model_dump(mode="json"),
                "machine": machine,
                "code": [
                    code_digest(module)
                    for module in ("edgec.verify.speed", __name__, backend.rpartition(".")[0] or backend)
                ],
            }
        )

    def _measure(
        self, one: Placed, beside: Placed | None, runtime: str, bench: BenchSpec, progress: Progress
    ) -> _Times:
        request = PinnedTiming(
            artifacts=tuple(item.file for item in (one, beside) if item is not None),
            runtime=runtime,
            spool=one.folder / SAMPLE,
            threads=bench.threads,
            warmup=bench.warmup,
            runs=bench.runs,
            cores=_cores(bench.threads),
        )
        options = WorkerOptions(
            log=self._log,
            what=f"{one.made.artifact.file} in {runtime}",
            threads=bench.threads,
            on_progress=progress,
            imports=imports_of(one.made.artifact),
        )
        times = call(f"{__name__}:time_pinned", request, TimingAnswer, **options).value
        memory = call(f"{__name__}:run_once", request, Done, **options).peak_rss_mb
        return _Times(latency=times.latency, speed=times.speed, memory_mb=round(memory, 1))


def time_pinned(request: PinnedTiming, progress: Progress) -> TimingAnswer:
    """`time_artifacts`, on the request's cores only (a task of `edgec.workers.worker`)."""
    os.sched_setaffinity(0, request.cores)  # this process does nothing else
    return time_artifacts(request, progress)


def run_once(request: PinnedTiming, progress: Progress) -> Done:
    """Load the first artifact and run one sample: the process's peak is what an inference needs."""
    artifact, file = request.artifacts[0].artifact, request.artifacts[0].file
    progress(f"memory of {artifact.precision} in {request.runtime}")
    runner = get_backend(artifact.backend).runner(artifact, file, request.runtime, request.threads)
    runner(Spool(request.spool)[0])
    return Done()


def _cores(threads: int) -> tuple[int, ...]:
    """The last ones that this process may use: the first ones serve the system's interrupts."""
    return tuple(sorted(os.sched_getaffinity(0))[-threads:])


@contextmanager
def _alone(progress: Progress) -> Iterator[None]:
    """Hold the lock of all sweeps of this user on this machine."""
    lock = own_folder() / f"timing-{socket.gethostname()}.lock"
    with guarded(lock, waiting=lambda: progress("wait until another sweep has taken its times")):
        yield
