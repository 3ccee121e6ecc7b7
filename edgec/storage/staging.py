"""Folders that appear complete or not at all: made in a private folder, then put in place in one step."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from edgec.storage.files import storage_errors

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
"""linux/fs.h: swap two paths atomically."""
_UNAVAILABLE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
"""Errors of renameat2 where kernel or file system cannot exchange paths."""
_STAGE = "stage-"


@contextmanager
def private_folder(base: Path, prefix: str = "") -> Iterator[Path]:
    """A folder of this process in `base`; removed at the end, also when a signal interrupts that or its creation.

    Folders that killed processes left with the same prefix are removed first.

    Args:
        base: created when missing.
        prefix: of the name; the process id follows.

    Raises:
        OSError: the folder cannot be created.
    """
    base.mkdir(parents=True, exist_ok=True)
    for left in base.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if left.is_dir() and owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = base / f"{prefix}{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def destination_lock(destination: Path) -> Iterator[None]:
    """Hold the right to write `destination`; other processes wait. A killed process releases it.

    Raises:
        StorageError: the lock cannot be created.
    """
    with storage_errors(destination):
        work = destination.parent / ".work"
        work.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(work / f"{destination.name}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stage(parent: Path) -> Iterator[Path]:
    """A private folder on the file system of `parent`; what remains of it at the end is removed.

    Raises:
        StorageError: it cannot be created.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(parent):
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
        _sync(staged)
        if not destination.exists():
            staged.rename(destination)
        elif not _exchange(staged, destination):
            with private_folder(destination.parent / ".work", _STAGE) as aside:
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


def _sync(folder: Path) -> None:
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
