"""Guards: small files beside what one process at a time may write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.errors import StorageError
from edgec.storage.files import storage_errors
from edgec.storage.stops import stops_held

_POLL = 0.05
"""Seconds between attempts."""
_NOT_OURS = "something that is not edgec's is in the place of a guard"


@contextmanager
def guarded(file: Path, timeout: float = float("inf"), waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of `file`; other processes and threads wait. A killed process releases it.

    The file is opened without following links and removed at the end, which locks of libraries are not.

    Args:
        file: the guard, beside what it guards; its folder is created when missing.
        timeout: seconds to wait.
        waiting: called once when another one holds it.

    Raises:
        StorageError: a link, a folder or anything else is in its place, or the file system refuses.
        TimeoutError: another one still holds it.
    """
    handle: list[int] = []
    try:
        _acquire(file, handle, time.monotonic() + timeout, waiting)
        yield
    finally:
        with stops_held():
            for number in handle:
                with contextlib.suppress(OSError):  # in a folder where only its owner may remove it, it stays
                    file.unlink()
                os.close(number)


def _acquire(file: Path, handle: list[int], deadline: float, waiting: Callable[[], None]) -> None:
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    waits = False
    while True:
        with stops_held(), storage_errors(file):
            if (number := _locked(file)) is not None:
                handle.append(number)
                return
        if not waits:
            waits = True
            waiting()
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{file}: another process holds it")
        time.sleep(_POLL)


def _locked(file: Path) -> int | None:
    """A descriptor of the guard, locked; None when another one holds it, or has just removed it."""
    number = _open(file)
    if number is None:
        return None
    try:
        opened = os.fstat(number)
        if not stat.S_ISREG(opened.st_mode):
            raise StorageError(_NOT_OURS, where=str(file), hint="remove it")
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(opened, os.lstat(file)):
            return number
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(number)
        raise
    os.close(number)
    return None


def _open(file: Path) -> int | None:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(file, flags | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # another user's, which can be locked as well
        with contextlib.suppress(FileNotFoundError):
            return os.open(file, flags | os.O_RDONLY)
        if not os.access(file.parent, os.W_OK):
            raise
        return None
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StorageError(_NOT_OURS, where=str(file), hint="remove it") from exc
        raise
