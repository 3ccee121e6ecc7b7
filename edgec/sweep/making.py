"""Making the cells that are not there yet, by whoever is at hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgec.build.room import JOB_MB, available_mb, room_on_cores
from edgec.errors import EdgecError, StorageError, UsageError
from edgec.sweep.cell import CellRequest
from edgec.sweep.dask_pool import DaskPool
from edgec.sweep.environment import environment_of
from edgec.sweep.keys import Keys, backends_of
from edgec.sweep.pool import LocalPool
from edgec.sweep.store import CellRecord, CellStore
from edgec.sweep.variants import Cell, mixed
from edgec.workers.worker import Progress

Crew = LocalPool | DaskPool


@dataclass(frozen=True)
class Means:
    """How cells are made."""

    threads: int = 1
    """CPU threads of each process."""
    workers: int | None = None
    """Cells at once on this machine; None: as many as there is room for."""
    memory_mb: int | None = None
    """Memory for all of them; None: what is free."""
    scheduler: str | None = None
    """Of a cluster that makes them instead."""


@dataclass
class MadeCells:
    """By key, what became of all cells."""

    records: dict[str, CellRecord] = field(default_factory=dict)
    failed: dict[str, EdgecError] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
    """Those that this run has made."""


def choose_crew(means: Means, store: CellStore, cells: Sequence[Cell], progress: Progress) -> Crew:
    """Who makes the cells.

    Raises:
        UsageError: means that exclude each other, or that the cells exclude.
        BackendUnavailableError: Dask distributed is not installed.
    """
    timed = next((cell for cell in cells if cell.prune and cell.plan.target.prune.goal == "latency"), None)
    if means.scheduler is not None:
        if timed is not None:
            raise _disturbed(timed, "leave out --scheduler, and use --workers 1")
        if means.workers is not None or means.memory_mb is not None:
            raise UsageError(
                "--workers and --memory are about this machine; a cluster has its own", where="--scheduler"
            )
        backends = backends_of([cell.plan for cell in cells])
        return DaskPool(means.scheduler, store, environment_of(backends), backends)
    if timed is not None:
        if means.workers not in (None, 1):
            raise _disturbed(timed, "--workers 1")
        return LocalPool(1)
    memory = available_mb() if means.memory_mb is None else means.memory_mb
    wanted, most = means.workers or room_on_cores(means.threads), max(1, memory // JOB_MB)
    if wanted > most:
        progress(f"{most} of {wanted} workers: each may take {JOB_MB} MB, and there are {memory}")
    return LocalPool(min(wanted, most))


def _disturbed(cell: Cell, hint: str) -> UsageError:
    return UsageError(
        'prune.goal = "latency" takes times while it prunes, which other cells would disturb',
        where=cell.label,
        hint=hint,
    )


def make_cells(
    cells: Sequence[Cell],
    crew: Crew,
    store: CellStore,
    keys: Keys,
    *,
    root: Path,
    out: Path,
    threads: int,
    progress: Progress,
) -> MadeCells:
    """Make those of `cells` that are not there; cells with equal keys are one.

    Args:
        cells: with their keys.
        crew: who makes them.
        store: where they are kept.
        keys: of this sweep.
        root: the project's folder.
        out: the folder of bundles.
        threads: CPU threads of each process.
        progress: told what begins and what has ended.
    """
    made = MadeCells()
    different = {cell.key: cell for cell in reversed(cells)}
    missing = []
    for cell in reversed(different.values()):
        record = store.get(cell.key)
        if record is None:
            missing.append(cell)
        else:
            made.records[cell.key] = record
    requests = [_request(cell, keys, root, out, threads) for cell in mixed(missing)]
    if requests:
        progress(f"{len(requests)} of {len(different)} cells are to be made")
    began, done = time.monotonic(), 0

    def finished(request: CellRequest, error: EdgecError | None) -> None:
        nonlocal done
        done += 1
        record = store.get(request.key) if error is None else None
        if record is not None:
            made.records[request.key] = record
            made.computed.add(request.key)
        else:
            error = error or StorageError(
                "it was made, but is not there, or the files it was made from have changed meanwhile",
                where=str(store.folder(request.key)),
                hint="run the sweep again",
            )
            made.failed[request.key] = error
        told = f"failed: {error.what}" if error else "made"
        progress(f"{done} of {len(requests)}: {request.label}: {told}, after {time.monotonic() - began:.0f} s")

    crew.run(requests, finished, lambda step: progress(f"{done} of {len(requests)}: {step}"))
    return made


def _request(cell: Cell, keys: Keys, root: Path, out: Path, threads: int) -> CellRequest:
    payload = {
        "key": cell.key,
        "target": cell.plan.target.model_dump_json(),
        "project": cell.plan.project.model_dump_json(),
        "root": str(root.absolute()),
        "out": str(out),
        "cwd": str(Path.cwd()),
        "threads": threads,
        "known": {str(path): sha256 for path, sha256 in keys.files(cell.plan).items()},
    }
    return CellRequest(cell.key, cell.label, payload)
