"""Cells on a cluster: the same requests as tasks of Dask distributed (https://distributed.dask.org).

Workers need the same edgec, and the folders of project and bundles under the same paths. A worker writes its cell to
disk before it reports it: a killed worker costs one cell, and a restarted scheduler is asked for the missing cells.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgec.backends.registry import package_version
from edgec.errors import BackendUnavailableError, EdgecError, UsageError, WorkerError
from edgec.storage.files import write_atomically
from edgec.sweep.attempt import attempt
from edgec.sweep.environment import differences, environment_of
from edgec.sweep.pool import Finished
from edgec.sweep.requests import CellRequest, WorkerRequirements
from edgec.sweep.store import CellStore
from edgec.workers.worker import Progress, Worker

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 3
PATIENCE = 120.0
"""Seconds to wait for a scheduler that has answered before, and for a worker when none is left."""
CONNECT = 15.0
"""Seconds to wait for the first connection to a scheduler, and for its first worker."""
VISIBLE = 60.0
"""Seconds until files that another machine has written are visible: NFS caches a folder for this long."""
POLL = 0.5
LOOK = 2.0
"""Seconds between two counts of the workers."""


def make_remotely(request: CellRequest, requirements: WorkerRequirements) -> EdgecError | None:
    """Make a cell in a process beside a Dask worker.

    Args:
        request: the cell.
        requirements: what this worker must have in common with the sweep.

    Returns:
        The error of the cell itself; None: the cell was made.

    Raises:
        WorkerError: this worker cannot make the cell, or the process was killed; another attempt may succeed.
    """
    if reason := unfit(requirements):
        raise WorkerError(f"a worker of the cluster cannot be used: {reason}", where=request.label)
    begun: list[Worker] = []
    with ThreadPoolExecutor(max_workers=1) as thread:  # a process dies with the thread that has started it
        future = thread.submit(attempt, request, begun.append, lambda step: None)
        while not wait([future], timeout=POLL).done:
            if not requirements.lease.exists():
                for worker in begun:
                    worker.kill()
        return future.result()


def unfit(requirements: WorkerRequirements) -> str:
    """Why this process cannot make the requested cells; empty: it can."""
    if changed := differences(requirements.environment, requirements.backends):
        return f"its environment differs: {', '.join(changed)}"
    if not requirements.lease.exists():
        return f"it cannot read {requirements.lease}: workers need the same file system, under the same paths"
    return ""


class DaskPool:
    """An executor that makes cells on a Dask cluster.

    Args:
        address: of the scheduler: ``tcp://host:8786``.
        store: holds the finished cells.
        backends: of all cells.

    Raises:
        UsageError: the address is not valid.
        BackendUnavailableError: Dask distributed is not installed.
    """

    def __init__(self, address: str, store: CellStore, backends: Sequence[str]) -> None:
        kind, colon, rest = address.partition("://")
        if kind not in ("tcp", "tls") or not colon or not rest.rpartition(":")[2].isdigit():
            raise UsageError(f'"{address}" is not the address of a scheduler', hint="--scheduler tcp://host:8786")
        if package_version("distributed") is None:
            raise BackendUnavailableError("not installed: distributed", hint="pip install 'edgec[cluster]'")
        self._address, self._store, self._backends = address, store, tuple(backends)

    def run(self, requests: Sequence[CellRequest], finished: Finished, progress: Progress) -> None:
        """Make all cells; returns when each has been made or has failed.

        Args:
            requests: the cells.
            finished: called with each cell and its error.
            progress: called with each step.

        Raises:
            WorkerError: there is no scheduler, or none of its workers can be used.
        """
        if not requests:
            return
        lease = self._store.lease(uuid.uuid4().hex)
        write_atomically(lease, "")
        try:
            with _quiet():
                requirements = WorkerRequirements(
                    environment=dict(environment_of(self._backends)), backends=self._backends, lease=lease
                )
                self._run({request.key: request for request in requests}, requirements, finished, progress)
        finally:
            lease.unlink(missing_ok=True)  # cells that the cluster is still making end now

    def _run(
        self, pending: dict[str, CellRequest], requirements: WorkerRequirements, finished: Finished, progress: Progress
    ) -> None:
        answered, rounds = 0.0, 0
        while pending:
            rounds += 1
            try:
                with self._client(CONNECT if not answered else 5.0) as client:
                    self._check(client, requirements)
                    answered = time.monotonic()
                    self._round(client, rounds, pending, requirements, finished, progress)
                    answered = time.monotonic()
            except OSError as error:  # also of time-outs and closed connections
                if not answered or time.monotonic() - answered > PATIENCE:
                    raise WorkerError(
                        f"the scheduler cannot be reached, or has no workers: {error}",
                        where=self._address,
                        hint="start them with `dask scheduler` and `dask worker ADDRESS`; finished cells are kept",
                    ) from error
                time.sleep(POLL)
            if pending:
                progress(f"{self._address}: the connection was lost: {len(pending)} cells are submitted again")

    def _client(self, timeout: float) -> Client:
        from distributed import Client

        client: Client = Client(self._address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
        return client

    def _check(self, client: Client, requirements: WorkerRequirements) -> None:
        client.wait_for_workers(1, timeout=CONNECT)
        try:
            reasons = client.run(unfit, requirements)
        except OSError:
            raise
        except Exception as error:
            raise WorkerError(
                f"its workers cannot run edgec: {type(error).__name__}: {error}",
                where=self._address,
                hint="install the same edgec for them, with the same packages",
            ) from error
        if refused := {worker: reason for worker, reason in reasons.items() if reason}:
            worker, reason = next(iter(refused.items()))
            raise WorkerError(
                f"worker {worker}: {reason}", where=self._address, hint="start it with the edgec of this sweep"
            )

    def _round(
        self,
        client: Client,
        number: int,
        pending: dict[str, CellRequest],
        requirements: WorkerRequirements,
        finished: Finished,
        progress: Progress,
    ) -> None:
        """Submit all pending cells; those without a result when the connection is lost stay pending."""
        from distributed import as_completed

        futures = {}
        for key, request in pending.items():
            name = f"{key}-{requirements.lease.name}-{number}"
            future = client.submit(make_remotely, request, requirements, key=name, retries=RETRIES, pure=False)
            futures[future.key] = (future, request)
        asked = [future for future, _ in futures.values()]
        ended = as_completed(asked, loop=client.loop, raise_errors=False)  # type: ignore[no-untyped-call]
        watch = _Watch(client, self._address, progress)
        while not ended.is_empty():  # type: ignore[no-untyped-call]
            if not ended.has_ready():  # type: ignore[no-untyped-call]
                if not watch.look():
                    return
                continue
            future = next(ended)
            _, request = futures[future.key]
            if future.status == "finished":
                error: EdgecError | None = future.result()
                self._wait_until_visible(request, error)
            elif future.status == "error":
                error = _error_of(future.exception(), request)  # type: ignore[no-untyped-call]
            else:
                continue  # it was cancelled: the scheduler is gone
            del pending[request.key]
            finished(request, error)

    def _wait_until_visible(self, request: CellRequest, error: EdgecError | None) -> None:
        deadline = time.monotonic() + VISIBLE
        while error is None and not self._store.folder(request.key).exists() and time.monotonic() < deadline:
            time.sleep(POLL)


class _Watch:
    """Watches for workers: a scheduler keeps tasks for ever when its last worker is gone."""

    def __init__(self, client: Client, address: str, progress: Progress) -> None:
        self._client, self._address, self._progress = client, address, progress
        self._looked = self._seen = time.monotonic()
        self._reported = False

    def look(self) -> bool:
        """Wait a moment; False: the scheduler is gone.

        Raises:
            WorkerError: there has been no worker for `PATIENCE`.
        """
        time.sleep(POLL)
        now = time.monotonic()
        if now - self._looked < LOOK:
            return True
        self._looked = now
        try:
            count = len(self._client.nthreads())  # type: ignore[no-untyped-call]  # `scheduler_info` lists only the first few
        except OSError:
            return False
        if count:
            self._seen, self._reported = now, False
        elif now - self._seen > PATIENCE:
            raise WorkerError(
                f"no workers for {PATIENCE:.0f} s",
                where=self._address,
                hint="start one with `dask worker ADDRESS`; finished cells are kept",
            )
        elif not self._reported:
            self._reported = True
            self._progress(f"{self._address}: no workers are left: wait {PATIENCE:.0f} s for one")
        return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask, which logs lost connections with tracebacks; the pool reports them as progress."""
    import distributed  # it sets up its loggers when it is imported

    logger = logging.getLogger(distributed.__name__)
    children = [logging.getLogger(f"{distributed.__name__}.{name}") for name in ("client", "core", "comm")]
    levels = [item.level for item in (logger, *children)]
    for item in (logger, *children):
        item.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for item, level in zip((logger, *children), levels, strict=True):
            item.setLevel(level)


def _error_of(exception: Any, request: CellRequest) -> EdgecError:
    if isinstance(exception, EdgecError):
        return exception
    return WorkerError(
        f"the cluster gave up on this cell: {type(exception).__name__}: {exception}", where=request.label
    )
