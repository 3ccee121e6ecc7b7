"""The child of `edgec.workers.worker`: answers the requests that its parent leaves in a folder, one after the other."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from edgec.errors import EdgecError, StorageError, storage_failure
from edgec.workers.failures import NO_ANSWER
from edgec.workers.records import Done
from edgec.workers.worker import ANSWERED

_PR_SET_PDEATHSIG = 1
_ALMOST_FULL = 1 << 20
"""Free bytes below which a failure is put down to the disk: toolchains leave truncated files without a word."""


def serve(folder: Path, orders: TextIO, report: TextIO) -> None:
    """Answer until the parent closes `orders`.

    Args:
        folder: holds ``request-<n>.json``, and gets ``response-<n>.json``.
        orders: a line for each request, with its number.
        report: gets a line for each step that begins, and `ANSWERED` after each response.
    """

    def progress(step: str) -> None:
        report.write(step.replace("\n", " ") + "\n")

    objects: list[Any] = []
    for number in map(str.strip, orders):
        request = json.loads((folder / f"request-{number}.json").read_text())
        try:
            record = _named(request["record"]).model_validate_json(request["payload"])
            value = _resolve(request, objects)(record, progress)
            if "create" in request:
                objects[:], value = [value], Done()
            answer: dict[str, Any] = {"value": value.model_dump_json(), "peak_rss_mb": _peak_rss_mb()}
        except BaseException as exc:  # also SystemExit: toolchains call sys.exit
            with contextlib.suppress(OSError):  # the disk may be full, which is then reported
                traceback.print_exc()
            answer = {"error": _error_record(exc)}
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        partial = folder / "response.partial"
        try:
            partial.write_text(json.dumps(answer))
            partial.rename(folder / f"response-{number}.json")
        except OSError as exc:
            os._exit(NO_ANSWER if storage_failure(exc) else 1)
        report.write(f"{ANSWERED}\n")


def _resolve(request: dict[str, Any], objects: list[Any]) -> Callable[..., Any]:
    if method := request.get("method"):
        bound: Callable[..., Any] = getattr(objects[0], method)
        return bound
    function: Callable[..., Any] = _named(request.get("task", request.get("create", "")))
    return function


def _named(place: str) -> Any:
    """What ``package.module:name`` stands for."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _peak_rss_mb() -> float:
    """Largest resident set of this program; rusage would count what its parent held when it forked."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("no VmHWM in /proc/self/status")


def _error_record(exc: BaseException) -> dict[str, str]:
    """The error to report; a full disk is the cause, whatever the toolchain's message says."""
    error = storage_failure(exc) or (exc if isinstance(exc, EdgecError) else EdgecError(str(exc)))
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if not isinstance(error, StorageError) and free < _ALMOST_FULL:
        error = StorageError(
            f"the disk is full ({free // 1024} KiB are free), and then: {error.what}",
            where=error.where,
            hint="free some space, or build elsewhere with --out",
        )
    named = exc if type(error) is EdgecError else error
    return {
        "class": type(named).__name__,
        "what": error.what,
        "where": error.where,
        "hint": error.hint,
        "log": error.log,
    }


def main(folder: str, orders: str, report: str, parent: str) -> None:
    """Serve the parent process, and die with it.

    Args:
        folder: of requests and answers.
        orders: file descriptor that request numbers arrive on.
        report: file descriptor that steps are written to.
        parent: process id.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        os._exit(1)
    lines = os.fdopen(int(orders), encoding="utf-8")
    with os.fdopen(int(report), "w", encoding="utf-8", buffering=1) as pipe, contextlib.suppress(BrokenPipeError):
        serve(Path(folder), lines, pipe)
    os._exit(0)  # native runtimes may crash while they are torn down; the answers are complete


if __name__ == "__main__":
    main(*sys.argv[1:])
