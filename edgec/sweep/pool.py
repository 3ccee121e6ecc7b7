"""Makes cells on this machine, several at once, each in a process of its own that is replaced when it is killed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from edgec.errors import EdgecError, WorkerError
from edgec.sweep.attempt import attempt
from edgec.sweep.requests import CellRequest
from edgec.workers.worker import Progress, Worker

ATTEMPTS = 3
"""Processes that are started for a cell before its error is reported."""

Finished = Callable[[CellRequest, EdgecError | None], None]
"""Called with each cell and its error, in the thread that called `run`."""


class LocalPool:
    """An executor that makes cells in processes of this machine.

    Args:
        workers: cells that are made at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._running: set[Worker] = set()
        self._stopped = False

    def run(self, requests: Sequence[CellRequest], finished: Finished, progress: Progress) -> None:
        """Make all cells; returns when each has been made or has failed.

        Args:
            requests: the cells.
            finished: called with each cell and its error.
            progress: called with each step.
        """
        if not requests:
            return
        with ThreadPoolExecutor(max_workers=min(self._workers, len(requests))) as threads:
            futures = {threads.submit(self._make, request, progress): request for request in requests}
            try:
                for future in as_completed(futures):
                    finished(futures[future], future.result())
            except BaseException:
                for future in futures:
                    future.cancel()
                self._stop()
                raise

    def _make(self, request: CellRequest, progress: Progress) -> EdgecError | None:
        killed: WorkerError | None = None
        opened: list[Worker] = []

        def began(worker: Worker) -> None:
            with self._lock:
                opened.append(worker)
                self._running.add(worker)
                if self._stopped:
                    worker.kill()

        for _ in range(ATTEMPTS):
            if self._stopped:
                break
            try:
                return attempt(request, began, lambda step: progress(f"{request.label}: {step}"))
            except WorkerError as error:
                killed = error
                if not self._stopped:
                    progress(f"{request.label}: {error.what}: try again")
            except EdgecError as error:
                return error
            finally:
                with self._lock:
                    self._running.difference_update(opened)
        return killed

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for worker in self._running:
                worker.kill()
