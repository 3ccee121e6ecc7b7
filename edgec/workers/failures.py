"""Errors of worker processes, as their parent raises them."""

from __future__ import annotations

import signal
from pathlib import Path

from edgec.errors import EdgecError, StorageError, ToolchainError, WorkerError, error_classes

NO_ANSWER = 74
"""Exit code of a child that has no room for its answer (sysexits.h: EX_IOERR)."""
_LONGEST = 400
"""Characters of a toolchain's message that are shown; the log has all of them."""


def crash_error(code: int, place: str, log: Path) -> EdgecError:
    """The error of a process that ended without an answer.

    Args:
        code: its exit code; negative for a signal.
        place: what it did, with its step.
        log: has its output.
    """
    if code == NO_ANSWER:
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


def received_error(error: dict[str, str], place: str, log: Path) -> EdgecError:
    """The error that a function raised in the process.

    Args:
        error: its class and texts.
        place: what the process did, with its step; where the error names no place.
        log: has the process's output.
    """
    classes: dict[str, type[EdgecError]] = {cls.__name__: cls for cls in (*error_classes(), ToolchainError)}
    cls = classes.get(error["class"])
    if cls is None:
        words = " ".join(f"{error['class']}: {error['what']}".rstrip(": ").split())
        shown = words if len(words) <= _LONGEST else f"{words[:_LONGEST]} ..."
        return ToolchainError(
            f"the toolchain could not do this step ({shown})",
            where=place,
            hint="the log has the whole traceback; other backends may support the model",
            log=str(log),
        )
    return cls(error["what"], where=error["where"] or place, hint=error["hint"], log=error["log"] or str(log))
