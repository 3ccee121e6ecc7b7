"""One attempt to make a cell, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

from edgec.errors import EdgecError
from edgec.sweep.cell import TASK
from edgec.sweep.requests import CellRequest
from edgec.workers.records import Done
from edgec.workers.worker import WITH_TORCH, Progress, Worker


def attempt(request: CellRequest, began: Callable[[Worker], None], on_progress: Progress) -> EdgecError | None:
    """Make a cell in a process of its own.

    Args:
        request: the cell.
        began: called with the process once it runs, so that it can be ended.
        on_progress: called with each step.

    Returns:
        The error of the cell itself; None: the cell was made.

    Raises:
        WorkerError: the process was killed, which says nothing about the cell.
    """
    with Worker(
        log=request.log, what=request.label, threads=request.threads, on_progress=on_progress, imports=WITH_TORCH
    ) as worker:
        began(worker)
        try:
            worker.call(TASK, request, Done)
        except EdgecError as error:
            if worker.ended:
                raise
            return error
    return None
