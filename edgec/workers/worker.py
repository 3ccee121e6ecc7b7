"""Functions in a process of their own: their memory, noise and crashes do not reach the compiler.

`call` runs ``package.module:function`` in a process with a record as its request and gets another record back; big
things travel as files that the records name. The process is forked by one that has imported what it needs
(`edgec.workers.forked`). A `Worker` keeps such a process for several calls, and an object in it. All output of the
child goes to a log file. The child (`edgec.workers.process`) reports its current step through a pipe, so that a crash
or an out-of-memory kill is explained with the step's name. It dies with its parent, also when that is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, NotRequired, TypedDict, TypeVar, Unpack

from edgec.errors import WorkerError
from edgec.frozen import Frozen
from edgec.storage.temporary import private_folder
from edgec.workers.failures import crash_error, received_error
from edgec.workers.forked import fork, prepare
from edgec.workers.records import Done

Progress = Callable[[str], None]
"""Called with the name of the step that begins."""
Task = Callable[[Any, Progress], Any]
"""A function that workers run: it takes a record and returns another."""
Answer = TypeVar("Answer", bound=Frozen)

ANSWERED = "\x06"
"""What the child writes instead of a step when an answer is complete."""
LIGHT = ("numpy", "edgec.verify.run")
"""Imported beforehand for functions that run a runtime: these count the memory it takes."""
WITH_TORCH = ("torch", "edgec.ladder.compiler")
"""Imported beforehand for functions that use torch in any case."""


@dataclass(frozen=True)
class WorkerResult(Generic[Answer]):
    """What the function returned, and what the process cost."""

    value: Answer
    seconds: float
    peak_rss_mb: float
    """Of the process until then."""


class WorkerOptions(TypedDict):
    """How a process is started."""

    log: Path
    """File that its output is appended to."""
    what: str
    """What it does, for messages: ``tflite: model.tflite``."""
    threads: NotRequired[int]
    """OMP/BLAS threads; 1 by default."""
    on_progress: NotRequired[Progress | None]
    """Called with each step that a function begins."""
    environment: NotRequired[Mapping[str, str] | None]
    """None: this process's, with what keeps toolchains quiet, reproducible and in `threads`."""
    imports: NotRequired[Sequence[str]]
    """Modules that are imported before the process begins; `LIGHT` by default."""


def call(task: str, request: Frozen, answer: type[Answer], **options: Unpack[WorkerOptions]) -> WorkerResult[Answer]:
    """Run `task` in its own process and wait for it.

    Args:
        task: ``package.module:function`` of type `Task`.
        request: passed to the function.
        answer: class of the record that the function returns.
        options: of the process.

    Raises:
        EdgecError: what the function raised, with the log attached.
        ToolchainError: it raised an exception that is not an EdgecError.
        WorkerError: the process crashed, was killed or ended without an answer.
    """
    began = time.perf_counter()
    with Worker(**options) as worker:
        result = worker.call(task, request, answer)
    return replace(result, seconds=time.perf_counter() - began)


def import_ahead(log: Path, threads: int) -> None:
    """Let what workers need be imported while this process loads the model.

    Args:
        log: gets what is printed meanwhile.
        threads: of the workers to come.

    Raises:
        WorkerError: no process can be started.
    """
    try:
        prepare(WITH_TORCH, _environment(threads, ""), log)
    except OSError as exc:
        raise WorkerError(f"cannot start a process: {exc}", where="import what workers need") from exc


class Worker:
    """A process that answers one request after the other, until the context ends.

    Args:
        log, what, threads, on_progress, environment, imports: as of `WorkerOptions`.

    Raises:
        WorkerError: the process cannot be started.
    """

    def __init__(
        self,
        *,
        log: Path,
        what: str,
        threads: int = 1,
        on_progress: Progress | None = None,
        environment: Mapping[str, str] | None = None,
        imports: Sequence[str] = LIGHT,
    ) -> None:
        self._log, self._what = log, what
        self._on_progress = on_progress
        self._step = ""
        self._requests = 0
        self._ended: int | None = None
        self._events: queue.Queue[int | None] = queue.Queue()
        log.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._private = stack.enter_context(private_folder(log.parent))
            self._start(_environment(threads, str(self._private)) if environment is None else environment, imports)
            self._cleanup = stack.pop_all()

    def _start(self, environment: Mapping[str, str], imports: Sequence[str]) -> None:
        status, report = os.pipe()
        orders, self._orders = os.pipe()
        try:
            with self._log.open("ab") as sink:
                files = (orders, report, sink.fileno())
                self._process = fork(imports, environment, self._private, files, self._log)
        except OSError as exc:
            os.close(status)
            os.close(self._orders)
            raise WorkerError(f"cannot start a process: {exc}", where=self._what, log=str(self._log)) from exc
        finally:
            os.close(orders)
            os.close(report)
        self._listener = threading.Thread(target=self._listen, args=(status,), daemon=True)
        self._listener.start()
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def _listen(self, status: int) -> None:
        with os.fdopen(status, encoding="utf-8") as lines:
            for line in lines:
                step = line.rstrip("\n")
                if step == ANSWERED:
                    self._events.put(None)
                    continue
                self._step = step
                if self._on_progress:
                    with contextlib.suppress(Exception):  # a listener that fails does not stop the work
                        self._on_progress(step)

    def _wait(self) -> None:
        code = self._process.wait()
        self._listener.join(timeout=5)  # its last steps are read before its end is reported
        self._events.put(code)

    @property
    def ended(self) -> bool:
        """Whether the process is gone, so that another one may do better."""
        return self._ended is not None

    def call(self, task: str, request: Frozen, answer: type[Answer]) -> WorkerResult[Answer]:
        """Run a function of type `Task`; arguments and errors as of `edgec.workers.worker.call`."""
        return self._request({"task": task}, request, answer)

    def create(self, factory: str, request: Frozen) -> None:
        """Make the object whose methods `ask` calls: ``package.module:Class``, called as a `Task` is."""
        self._request({"create": factory}, request, Done)

    def ask(self, method: str, request: Frozen, answer: type[Answer]) -> WorkerResult[Answer]:
        """Call a method of the object as a `Task`."""
        return self._request({"method": method}, request, answer)

    def _request(self, function: dict[str, str], request: Frozen, answer: type[Answer]) -> WorkerResult[Answer]:
        """Call a function and wait for its answer: ``task``, ``create`` or ``method``, with its name."""
        self._requests += 1
        self._step = ""
        began = time.perf_counter()
        folder = self._private
        response = folder / f"response-{self._requests}.json"
        (folder / f"request-{self._requests}.json").write_text(json.dumps({**function, **_written(request)}))
        with contextlib.suppress(BrokenPipeError):  # its end is reported below
            os.write(self._orders, f"{self._requests}\n".encode())
        if self._ended is None:
            self._ended = self._events.get()
        place = f"{self._what}, step {self._step}" if self._step else self._what
        try:
            content = json.loads(response.read_text())
        except (OSError, ValueError):
            if self._ended is None:  # it reported an answer
                self._ended = self._events.get()
            raise crash_error(self._ended or 0, place, self._log) from None
        if "error" in content:
            raise received_error(content["error"], place, self._log)
        return WorkerResult(
            answer.model_validate_json(content["value"]), time.perf_counter() - began, content["peak_rss_mb"]
        )

    def kill(self) -> None:
        """End the process now, from whichever thread; a request that waits for it fails with WorkerError."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # with whatever it has started; its answers are on disk

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._orders)
        self.kill()
        self._waiter.join()
        self._cleanup.close()


def _written(request: Frozen) -> dict[str, str]:
    """A request as the child reads it, with the name of its class."""
    kind = type(request)
    return {"record": f"{kind.__module__}:{kind.__qualname__}", "payload": request.model_dump_json()}


def _environment(threads: int, folder: str) -> dict[str, str]:
    """The child's environment; `folder` is for the temporary files that toolchains leave behind."""
    quiet = {
        "TMPDIR": folder,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_USE_LEGACY_KERAS": "1",
        "PYTHONWARNINGS": "ignore",
        "PYTHONHASHSEED": "0",
    }
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    return {**os.environ, **quiet, **counts}
