"""Folders that appear complete or not at all: made in a private folder, then put in place in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.storage.files import storage_errors
from edgec.storage.guard import guarded
from edgec.storage.stops import stops_held
from edgec.storage.temporary import private_folder

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""linux/fs.h: swap two paths atomically."""
_UNAVAILABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
"""Errors of renameat2 where kernel or file system cannot exchange paths."""
_STAGE = "stage-"


@contextmanager
def destination_lock(destination: Path) -> Iterator[None]:
    """Hold the right to write `destination`; other processes wait. A killed process releases it.

    Raises:
        StorageError: the lock cannot be created.
    """
    with guarded(destination.parent / ".work" / f"{destination.name}.lock"):
        yield


@contextmanager
def stage(parent: Path) -> Iterator[Path]:
    """A private folder on the file system of `parent`; what remains of it at the end is removed.

    Raises:
        StorageError: it cannot be created.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(parent):
            (parent / ".work").mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(private_folder(parent / ".work", _STAGE))
        yield folder


def replace_folder(staged: Path, destination: Path) -> None:
    """Put a folder in place of `destination`, which at each moment is the old one, the new one or absent.

    Args:
        staged: folder from `stage`, on the same file system; gone afterwards. Flushed to disk first.
        destination: may exist.

    Raises:
        StorageError: the write is refused.
    """
    with storage_errors(destination):
        flush(staged)
        with stops_held():
            _put(staged, destination)


def _put(staged: Path, destination: Path) -> None:
    if not destination.exists():
        staged.rename(destination)
    elif not _exchange(staged, destination):
        with stage(destination.parent) as aside:
            destination.rename(aside / "old")
            staged.rename(destination)
    _sync_folder(destination.parent)
    shutil.rmtree(staged, ignore_errors=True)  # after an exchange, the old folder


def remove_folder(destination: Path) -> None:
    """Remove a folder, which at each moment is complete or absent.

    Raises:
        StorageError: the removal is refused.
    """
    with storage_errors(destination), stage(destination.parent) as folder:
        destination.rename(folder / "removed")
        _sync_folder(destination.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths atomically; False where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNAVAILABLE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def flush(folder: Path) -> None:
    """Flush a folder and all in it to disk.

    Raises:
        OSError: the disk refuses.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            _sync_folder(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
