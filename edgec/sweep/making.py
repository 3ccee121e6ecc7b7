"""Makes the missing cells of a sweep on this machine or on a cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgec.build.room import JOB_MB, available_mb, room_on_cores
from edgec.errors import EdgecError, StorageError, UsageError
from edgec.sweep.dask_pool import DaskPool
from edgec.sweep.keys import Keys, backends_of
from edgec.sweep.pool import LocalPool
from edgec.sweep.requests import CellRequest
from edgec.sweep.store import CellRecord, CellStore
from edgec.sweep.variants import Cell, mixed
from edgec.workers.worker import Progress

Executor = LocalPool | DaskPool


@dataclass(frozen=True)
class Options:
    """How cells are made."""

    threads: int = 1
    """CPU threads of each process."""
    workers: int | None = None
    """Cells at once on this machine; None: as many as there is room for."""
    memory_mb: int | None = None
    """Memory for all of them; None: what is free."""
    scheduler: str | None = None
    """Address of the scheduler of a cluster that makes the cells; None: this machine does."""


@dataclass
class MadeCells:
    """The results of all cells, by key."""

    records: dict[str, CellRecord] = field(default_factory=dict)
    failed: dict[str, EdgecError] = field(default_factory=dict)
    computed: set[str] = field(default_factory=set)
    """Cells that this run has made."""


def choose_executor(options: Options, store: CellStore, cells: Sequence[Cell], progress: Progress) -> Executor:
    """The executor that makes the cells.

    Args:
        options: threads, workers, memory, scheduler.
        store: holds the finished cells.
        cells: of the sweep.
        progress: called when memory allows fewer workers than requested.

    Raises:
        UsageError: options that exclude each other, or that the cells exclude.
        BackendUnavailableError: Dask distributed is not installed.
    """
    timed = next((cell for cell in cells if cell.prune and cell.plan.target.prune.goal == "latency"), None)
    if options.scheduler is not None:
        if timed is not None:
            raise _disturbed(timed, "leave out --scheduler, and use --workers 1")
        if options.workers is not None or options.memory_mb is not None:
            raise UsageError("--workers and --memory apply to this machine, not to a cluster", where="--scheduler")
        return DaskPool(options.scheduler, store, backends_of([cell.plan for cell in cells]))
    if timed is not None:
        if options.workers not in (None, 1):
            raise _disturbed(timed, "--workers 1")
        return LocalPool(1)
    memory = available_mb() if options.memory_mb is None else options.memory_mb
    wanted, most = options.workers or room_on_cores(options.threads), max(1, memory // JOB_MB)
    if wanted > most:
        progress(f"{most} of {wanted} workers: each may take {JOB_MB} MB, and {memory} MB are available")
    return LocalPool(min(wanted, most))


def _disturbed(cell: Cell, hint: str) -> UsageError:
    return UsageError(
        'prune.goal = "latency" takes times while it prunes, which other cells would disturb',
        where=cell.label,
        hint=hint,
    )


def make_cells(
    cells: Sequence[Cell],
    executor: Executor,
    store: CellStore,
    keys: Keys,
    *,
    root: Path,
    out: Path,
    threads: int,
    progress: Progress,
) -> MadeCells:
    """Make the cells that the store lacks; cells with equal keys are made once.

    Args:
        cells: with their keys.
        executor: makes them.
        store: keeps them.
        keys: of this sweep.
        root: the project's folder.
        out: the folder of bundles.
        threads: CPU threads of each process.
        progress: called with each step and each finished cell.
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
                "the cell was made but cannot be read, or its input files have changed meanwhile",
                where=str(store.folder(request.key)),
                hint="run the sweep again",
            )
            made.failed[request.key] = error
        state = f"failed: {error.what}" if error else "made"
        progress(f"{done} of {len(requests)}: {request.label}: {state}, after {time.monotonic() - began:.0f} s")

    executor.run(requests, finished, lambda step: progress(f"{done} of {len(requests)}: {step}"))
    return made


def _request(cell: Cell, keys: Keys, root: Path, out: Path, threads: int) -> CellRequest:
    plan = cell.plan
    return CellRequest(
        key=cell.key, label=cell.label, target=plan.target, project=plan.project, root=root.absolute(), out=out,
        working_folder=Path.cwd(), threads=threads, inputs=keys.files(plan),
    )  # fmt: skip
