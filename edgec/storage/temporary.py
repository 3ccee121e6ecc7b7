"""Temporary folders: all that edgec makes are from here, and none outlives its process for long."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.storage.stops import stops_held

_OWNER = re.compile(r"(?:.*-)?(\d+)-[0-9a-f]{8}")
"""Name of a private folder, with the process that made it."""
_ATTEMPTS, _PAUSE = 10, 0.05
"""To remove a folder that a dying process still writes to, and seconds between them."""

_present: dict[Path, int] = {}
"""Private folders that may be there -> the process that made them."""


@contextmanager
def private_folder(base: Path | None = None, prefix: str = "") -> Iterator[Path]:
    """A folder of this process, with mode 0700; removed at the end, at the latest when the process ends.

    Its name is chosen and its removal certain before it is made; signals to stop wait while it is made and removed.
    Folders that killed processes left with the same prefix are removed first.

    Args:
        base: holds it. None: the folder for temporary files.
        prefix: of the name; the process id follows. Ends with "-", unless it is empty.

    Raises:
        OSError: the folder cannot be created.
    """
    if base is None:
        base, prefix = Path(tempfile.gettempdir()), prefix or "edgec-"
    sweep(base, prefix)
    folder = base / f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"
    _present[folder] = os.getpid()
    with contextlib.ExitStack() as stack:
        stack.callback(_remove, folder)
        with stops_held():
            folder.mkdir(mode=0o700)
            stack.enter_context(_claim(folder))
        yield folder


def lasting_folder() -> Path:
    """A private folder among the temporary files, which is there until the process ends."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(private_folder())


def sweep(base: Path, prefix: str) -> None:
    """Remove the private folders of dead processes of this user.

    Args:
        base: holds them.
        prefix: of their names; empty: all of them.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(base)):
            owner = _OWNER.fullmatch(entry.name) if entry.name.startswith(prefix) else None
            if owner and entry.is_dir(follow_symlinks=False) and not Path("/proc", owner[1]).exists():
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid == os.getuid() and _is_free(Path(entry)):
                        shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _claim(folder: Path) -> Iterator[None]:
    """Mark a folder as in use, for processes of other containers, which do not see this one's id."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: the process id must do
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_free(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks, or of another kind
        return True
    finally:
        os.close(handle)
    return True


def _remove(folder: Path) -> None:
    with stops_held():
        for _ in range(_ATTEMPTS):
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.lexists(folder):
                break
            time.sleep(_PAUSE)
        _present.pop(folder, None)


@atexit.register
def remove_private_folders() -> None:
    """Remove all that are still there, as where an exception came between making one and entering its block."""
    for folder, owner in list(_present.items()):
        if owner == os.getpid():
            _remove(folder)
