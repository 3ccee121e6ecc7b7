"""Worker processes that several threads of a build wait for, and that can be ended together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from edgec.errors import WorkerError
from edgec.frozen import Frozen
from edgec.ladder.trial import Trial, TrialStoppedError
from edgec.workers.worker import LIGHT, Answer, Progress, Worker, WorkerResult


class Processes:
    """All processes of one build.

    Args:
        log: receives what they print.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._stopped = False
        self._running: set[Worker] = set()
        self._trials: list[Trial] = []

    @overload
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
    ) -> WorkerResult[Answer]: ...
    @overload
    def call(
        self,
        task: str,
        request: dict[str, Any],
        *,
        what: str,
        threads: int,
        on_progress: Progress,
        imports: Sequence[str] = LIGHT,
    ) -> WorkerResult: ...
    def call(
        self,
        task: str,
        request: Frozen | dict[str, Any],
        answer: type[Answer] | None = None,
        *,
        what: str,
        threads: int,
        on_progress: Progress,
        imports: Sequence[str] = LIGHT,
    ) -> WorkerResult[Any]:
        """`edgec.workers.worker.call`, which `stop` can end.

        Raises:
            EdgecError: as of `edgec.workers.worker.call`.
            TrialStoppedError: `stop` was called.
        """
        with Worker(log=self._log, what=what, threads=threads, on_progress=on_progress, imports=imports) as worker:
            with self._lock:
                if self._stopped:
                    raise TrialStoppedError
                self._running.add(worker)
            try:
                return worker.request({"task": task}, request, answer)
            except WorkerError:
                if self._stopped:
                    raise TrialStoppedError from None
                raise
            finally:
                with self._lock:
                    self._running.discard(worker)

    def watch(self, trial: Trial) -> None:
        """Let `stop` end the process of `trial` too.

        Raises:
            TrialStoppedError: `stop` was called.
        """
        with self._lock:
            if self._stopped:
                raise TrialStoppedError
            self._trials.append(trial)

    def stop(self) -> None:
        """End all processes for good, and what threads do with them."""
        with self._lock:
            self._stopped = True
            for worker in self._running:
                worker.kill()
            for trial in self._trials:
                trial.stop()
