"""A folder of this user on this machine, which no other user can write to: for locks and logs outside of projects."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from pathlib import Path

from edgec.errors import StorageError

MACHINE = Path("/tmp")
"""Where all processes of a user on this machine look first."""
_LOGS = 20
"""Logs that are kept."""


def own_folder() -> Path:
    """The folder, with mode 0700; the same one whatever TMPDIR says, where /tmp can be written to.

    Raises:
        StorageError: there is no folder of the user's own to write to.
    """
    name = f"edgec-{os.getuid()}"
    folders = [MACHINE / name, Path(tempfile.gettempdir(), name)]
    with contextlib.suppress(RuntimeError):  # this user has no home
        folders.append(Path.home() / ".cache" / "edgec")
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = folder.lstat()
            private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
            if private and os.access(folder, os.W_OK):
                return folder
    raise StorageError("no folder of this user's own can be written to", where=" or ".join(map(str, folders)))


def new_log(name: str) -> Path:
    """An empty log file of this user; the newest ones of all names stay, older ones are removed.

    Args:
        name: begins its name.

    Raises:
        StorageError: there is no folder for it.
        OSError: it cannot be written.
    """
    folder = own_folder() / "logs"
    folder.mkdir(mode=0o700, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=lambda log: log.lstat().st_mtime, reverse=True)
    for old in logs[_LOGS - 1 :]:
        old.unlink(missing_ok=True)
    log = folder / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**6}.log"
    os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    return log
