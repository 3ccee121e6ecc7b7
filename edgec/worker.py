"""Functions in a process of their own: their memory, noise and crashes do not reach the compiler.

`call` runs ``package.module:function`` in a fresh interpreter with a JSON payload and gets JSON back; big things
travel as files named in the payload. All output of the child goes to a log file. The child reports its current
step through a pipe, so that a crash or an out-of-memory kill is explained with the step's name. The child dies
with its parent, also when that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.errors import EdgecError, StorageError, WorkerError, error_classes, storage_failure

Progress = Callable[[str], None]
"""Told the name of the step that begins."""
Task = Callable[[dict[str, Any], Progress], dict[str, Any]]

_PR_SET_PDEATHSIG = 1
_ALMOST_FULL = 1 << 20
"""Free bytes below which a failure is put down to the disk: toolchains leave truncated files without a word."""
_NO_ANSWER = 74
"""Exit code of a child that has no room for its answer (sysexits.h: EX_IOERR)."""


@dataclass(frozen=True)
class WorkerResult:
    """What the function returned, and what the process cost."""

    value: dict[str, Any]
    seconds: float
    peak_rss_mb: float


def call(
    task: str,
    payload: dict[str, Any],
    *,
    log: Path,
    what: str,
    threads: int = 1,
    on_progress: Progress | None = None,
) -> WorkerResult:
    """Run `task` in its own process and wait for it.

    Args:
        task: ``package.module:function`` of type `Task`.
        payload: JSON values; passed to the function.
        log: file that the process's output is appended to.
        what: what it does, for messages: ``tflite: model.tflite``.
        threads: OMP/BLAS threads of the process.
        on_progress: told each step the function begins.

    Raises:
        EdgecError: whatever the function raised, with `log` attached.
        WorkerError: the process crashed, was killed or failed without explanation.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    step = [""]
    began = time.perf_counter()
    private = tempfile.TemporaryDirectory(prefix=f"{os.getpid()}-", dir=log.parent)
    with private as folder, log.open("ab") as sink:
        request, response = Path(folder, "request.json"), Path(folder, "response.json")
        request.write_text(json.dumps({"task": task, "payload": payload}))
        receive, send = os.pipe()
        try:
            command = [
                sys.executable,
                "-P",  # a file onnx.py in the current folder is not the package
                "-X",
                "faulthandler",
                "-m",
                "edgec.worker",
                str(request),
                str(response),
                str(send),
                str(os.getpid()),
            ]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                pass_fds=(send,),
                env=_environment(threads, folder),
                start_new_session=True,
            )
        except OSError as exc:
            os.close(receive)
            raise WorkerError(f"cannot start a process: {exc}", where=what) from exc
        finally:
            os.close(send)

        def listen() -> None:
            with os.fdopen(receive, encoding="utf-8") as lines:
                for line in lines:
                    step[0] = line.rstrip("\n")
                    if on_progress:
                        on_progress(step[0])

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has started
            process.wait()
            raise
        finally:
            listener.join(timeout=5)
        seconds = time.perf_counter() - began
        place = f"{what}, step {step[0]}" if step[0] else what
        try:
            answer = json.loads(response.read_text())
        except (OSError, ValueError):
            raise _crash(process.returncode, place, log) from None
    if "error" in answer:
        raise _revive(answer["error"], place, log)
    return WorkerResult(answer["value"], seconds, usage.ru_maxrss / 1024)


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


def _crash(code: int, place: str, log: Path) -> EdgecError:
    if code == _NO_ANSWER:
        return StorageError("cannot write: no space left on device", where=str(log.parent), hint="free some space")
    if code == -signal.SIGKILL:
        return WorkerError(
            "the process was killed (SIGKILL); most often the machine ran out of memory",
            where=place,
            hint="give it more memory, build fewer targets at once (make -j1), or calibrate with fewer samples",
            log=str(log),
        )
    if code < 0:
        return WorkerError(
            f"the toolchain crashed ({signal.Signals(-code).name})",
            where=place,
            hint="the log ends with the crash",
            log=str(log),
        )
    return WorkerError(
        f"the toolchain ended the process (exit code {code})",
        where=place,
        hint="the log ends with the reason",
        log=str(log),
    )


def _revive(error: dict[str, str], place: str, log: Path) -> EdgecError:
    classes = {cls.__name__: cls for cls in error_classes()}
    cls = classes.get(error["class"])
    if cls is None:
        return WorkerError(
            f"{error['class']}: {error['what']}".rstrip(": "),
            where=place,
            hint="the log has the whole traceback",
            log=str(log),
        )
    return cls(error["what"], where=error["where"] or place, hint=error["hint"], log=error["log"] or str(log))


def _told(exc: BaseException) -> EdgecError:
    """The error to tell; when the disk is full that is the cause, though toolchains tell it in words of their own."""
    if full := storage_failure(exc):
        return full
    told = exc if isinstance(exc, EdgecError) else EdgecError(str(exc))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _ALMOST_FULL:
        return StorageError(
            f"the disk is full ({free // 1024} KiB are free), and then: {told.what}",
            where=told.where,
            hint="free some space, or build elsewhere with --out",
        )
    return told


def _main(request: Path, response: Path, send: int, parent: int) -> None:
    """The child: run the requested function and leave its answer in a file."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    with os.fdopen(send, "w", encoding="utf-8", buffering=1) as pipe:

        def progress(step: str) -> None:
            pipe.write(step.replace("\n", " ") + "\n")

        asked = json.loads(request.read_text())
        module, _, function = asked["task"].partition(":")
        try:
            task: Task = getattr(importlib.import_module(module), function)
            answer: dict[str, Any] = {"value": task(asked["payload"], progress)}
        except BaseException as exc:  # also SystemExit: toolchains call sys.exit
            with contextlib.suppress(OSError):  # the disk may be full, which is then what is told
                traceback.print_exc()
            told = _told(exc)
            answer = {
                "error": {
                    "class": type(exc if type(told) is EdgecError else told).__name__,
                    "what": told.what,
                    "where": told.where,
                    "hint": told.hint,
                    "log": told.log,
                }
            }
    partial = response.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(answer))
        partial.rename(response)
    except OSError as exc:
        os._exit(_NO_ANSWER if storage_failure(exc) else 1)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(0)  # native runtimes may crash while they are torn down; the answer is complete


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
