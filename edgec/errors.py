"""The one exception tree of edgec: every error a user can cause has a class, a message and an exit code.

A message says *what* is wrong, *where* (file, key, pass, sample) and *what to do*. Only ``edgec.cli.main``
turns an `EdgecError` into an exit; everything below it raises. Exit codes are unique by class (tested) and
documented in docs/errors.md, which a test holds against this file.
"""

from __future__ import annotations

import errno
import os

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What the operating system says when a disk is full or read-only."""


class EdgecError(Exception):
    """Base of all errors that edgec explains to its user.

    Args:
        what: what is wrong, one sentence, no trailing full stop needed.
        where: file and key, pass, artifact or sample that it concerns.
        hint: what the user can do about it.
        log: path of a log file with the toolchain's own output.
    """

    exit_code = 70
    """Process exit status of ``edgec`` when this error ends it."""

    def __init__(self, what: str, *, where: str = "", hint: str = "", log: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        self.log = log
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.hint:
            text += f"\n  {self.hint}"
        if self.log:
            text += f"\n  log: {self.log}"
        return text


class InternalError(EdgecError):
    """A defect of edgec itself; please report it with the log."""

    exit_code = 70


class UsageError(EdgecError):
    """The command line is wrong: an unknown option or verb, or options that exclude each other."""

    exit_code = 2


class TargetError(EdgecError):
    """A target or device file is wrong, or the named target does not exist."""

    exit_code = 10


class ProjectError(EdgecError):
    """edgec.toml is wrong or missing what the build needs."""

    exit_code = 11


class ModelError(EdgecError):
    """The model file is missing, unreadable, or not a model."""

    exit_code = 12


class UntrustedModelError(EdgecError):
    """The model file would execute code when loaded, and no Python entry point was given."""

    exit_code = 13


class InputSpecError(EdgecError):
    """The model does not accept the stated input names, shapes or dtypes."""

    exit_code = 14


class DatasetError(EdgecError):
    """Calibration or evaluation data is missing, empty, not finite, or does not fit the model's input."""

    exit_code = 15


class DataLeakError(EdgecError):
    """Calibration and evaluation data share samples, so the measured accuracy would not be honest."""

    exit_code = 16


class LabelsError(EdgecError):
    """The metric needs labels that the evaluation data does not have, or the labels do not fit the output."""

    exit_code = 17


class TraceError(EdgecError):
    """A backend cannot capture the model's graph, because of a line of the user's code."""

    exit_code = 18


class BackendUnavailableError(EdgecError):
    """The packages of a backend's toolchain or runtime are not installed."""

    exit_code = 19


class UnsupportedError(EdgecError):
    """Model and backend are both fine, but this backend cannot compile this model for this target."""

    exit_code = 20


class IncompleteError(EdgecError):
    """Artifacts of the target could not be made or missed their gates; the bundle has the others, and says so."""

    exit_code = 21


class WorkerError(EdgecError):
    """A toolchain process crashed, was killed (for instance out of memory), or failed without an explanation."""

    exit_code = 22


class ToolchainError(WorkerError):
    """A toolchain raised what edgec has no explanation for: unlike after a crash, another try would end the same."""

    exit_code = 22


class LockError(EdgecError):
    """``--locked``, and something differs from what edgec.lock says."""

    exit_code = 23


class ReproducibilityError(EdgecError):
    """Two builds of the same inputs gave different bytes."""

    exit_code = 24


class PassError(EdgecError):
    """A pass of the pipeline failed or did not keep its promise."""

    exit_code = 25


class WeakFloatError(EdgecError):
    """The float model itself is near chance, far below its calibration labels, or below ``min_accuracy``."""

    exit_code = 26


class GateError(EdgecError):
    """Artifacts do not meet their gates, and no bundle was written; or a limit of `edgec validate` does not hold."""

    exit_code = 30


class BundleError(EdgecError):
    """A folder is not a bundle, or a file of a bundle is missing or does not match its digest."""

    exit_code = 31


class ParityError(EdgecError):
    """An artifact computes something else here than it did when the bundle was built."""

    exit_code = 32


class StorageError(EdgecError):
    """The disk is full, read-only, or refuses the write."""

    exit_code = 33


class SignatureError(EdgecError):
    """A bundle or index is not signed with this key, is not what was signed, or expired; or a key cannot be used."""

    exit_code = 34


class RegressionError(EdgecError):
    """A bundle is worse than the one it is compared with, by more than allowed."""

    exit_code = 35


class PublishError(EdgecError):
    """A bundle cannot be published or pulled: the location does not answer, refuses, or has other content."""

    exit_code = 36


class CredentialsError(EdgecError):
    """A registry or store asks for credentials that were not given, or refuses those that were."""

    exit_code = 37


def printable(text: str) -> str:
    """`text` for messages, where others have a say in it: what a terminal would act on is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def printable_lines(text: str) -> str:
    """`text` of several lines for messages: as `printable`, but for the ends of lines."""
    return "\n".join(map(printable, text.split("\n")))


def storage_failure(exc: BaseException) -> StorageError | None:
    """What to tell when a full or read-only disk is behind an exception, however deep; else None.

    Native libraries put the operating system's words into exceptions of their own, so these are looked for too.
    """
    link: BaseException | None = exc
    while link is not None:
        if isinstance(link, StorageError):
            return link
        number = link.errno if isinstance(link, OSError) else None
        reason = next(
            (os.strerror(code) for code in _DISK_ERRORS if code == number or os.strerror(code) in str(link)), ""
        )
        if reason:
            place = link.filename if isinstance(link, OSError) else None
            hint = "free some space, or build elsewhere with --out"
            return StorageError(f"cannot write: {reason.lower()}", where=str(place or ""), hint=hint)
        link = link.__cause__ or link.__context__
    return None


class StoppedError(EdgecError):
    """The user stopped the run with Ctrl-C (SIGINT), SIGTERM or SIGHUP."""

    exit_code = 130


CONCERNS_ALL = (StorageError, ProjectError, TargetError, LockError)
"""What is wrong with more than the artifact that it was found with: nothing is made without it."""


def outside_the_model(error: EdgecError) -> bool:
    """Whether machine or project are at fault (a killed process, the disk, edgec.toml), whatever was being made."""
    return isinstance(error, (WorkerError, StorageError, ProjectError)) and not isinstance(error, ToolchainError)


def error_classes() -> tuple[type[EdgecError], ...]:
    """All classes with an exit code of their own, in the order of these."""
    return tuple(sorted(EdgecError.__subclasses__(), key=lambda cls: cls.exit_code))
