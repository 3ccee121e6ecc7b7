"""Worker processes of several threads, which can be stopped together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgec.errors import WorkerError
from edgec.frozen import Frozen
from edgec.workers.worker import LIGHT, Answer, Progress, Worker, WorkerResult


class StoppedError(Exception):
    """The build ends, and with it the work of all its threads; not an `EdgecError`, which would be recorded."""


class Stoppable(Protocol):
    """Holds a process that `WorkerGroup.stop` ends too."""

    def stop(self) -> None:
        """End the process for good, from another thread."""


class WorkerGroup:
    """All worker processes of one build.

    Args:
        log: receives what they print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._stopped = False
        self._workers: set[Worker] = set()
        self._members: list[Stoppable] = []

    def call(
        self,
        task: str,
        request: Frozen,
        answer: type[Answer],
        *,
        what: str,
        threads: int,
        on_progress: Progress,
        imports: Sequence[str] = LIGHT,
    ) -> WorkerResult[Answer]:
        """`edgec.workers.worker.call`, which `stop` can end.

        Args:
            task, request, answer: as of `edgec.workers.worker.call`.
            what, threads, on_progress, imports: as of `edgec.workers.worker.WorkerOptions`.

        Raises:
            EdgecError: as of `edgec.workers.worker.call`.
            StoppedError: `stop` was called.
        """
        with Worker(log=self._log, what=what, threads=threads, on_progress=on_progress, imports=imports) as worker:
            with self._lock:
                if self._stopped:
                    raise StoppedError
                self._workers.add(worker)
            try:
                return worker.call(task, request, answer)
            except WorkerError:
                if self._stopped:
                    raise StoppedError from None
                raise
            finally:
                with self._lock:
                    self._workers.discard(worker)

    def add(self, member: Stoppable) -> None:
        """Let `stop` end the process of `member` too.

        Raises:
            StoppedError: `stop` was called.
        """
        with self._lock:
            if self._stopped:
                raise StoppedError
            self._members.append(member)

    def stop(self) -> None:
        """End all processes for good."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.kill()
            for member in self._members:
                member.stop()
