"""Folders kept between builds that hold pickles: what is read back is what this user's edgec has written.

Unpickling runs whatever a file says, and a folder of bundles may come from anywhere. So a folder gets a record with the
digests of its files and a keyed digest (HMAC-SHA-256, RFC 2104) of the record; the key is the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from edgec.frozen import canonical_json
from edgec.storage.files import sha256_of, write_atomically

_BYTES = 32


def user_key() -> bytes | None:
    """The user's key, made when there is none; None where no private file can be kept."""
    try:
        file = _state_folder() / "edgec" / "key"
        return _read(file) if file.exists() else _make(file)
    except (OSError, RuntimeError):  # RuntimeError: no home folder
        return None


def seal(folder: Path, record: str, told: dict[str, Any], name: str, key: bytes) -> None:
    """Write `told` to the file `record` of `folder`, with digests of all other files in it.

    Args:
        folder: complete but for the record.
        record: name of the file to write.
        told: JSON values to keep.
        name: what the folder is a result of: one under another name is not taken for it.
        key: of `user_key`.

    Raises:
        StorageError: the record cannot be written.
    """
    content = {"name": name, "told": told, "files": _digests(folder, record)}
    write_atomically(folder / record, json.dumps({**content, "hmac": _mac(content, key)}, indent=1, sort_keys=True))


def unseal(folder: Path, record: str, name: str, key: bytes, private: Path) -> dict[str, Any] | None:
    """What `seal` was told, and the folder's files in `private`; None when there is nothing that this user sealed.

    Args:
        folder: may be written to by others, even now.
        record: name of the file that `seal` wrote.
        name: as given to `seal`.
        key: of `user_key`.
        private: folder to copy to, which nobody else writes to; nothing is there yet.
    """
    try:
        shutil.copytree(folder, private)  # what is checked here cannot be exchanged before it is read
        content = json.loads((private / record).read_bytes())
        mac = content.pop("hmac")
        told: dict[str, Any] = content["told"]
        sealed = hmac.compare_digest(mac, _mac(content, key)) and content["name"] == name
        if sealed and content["files"] == _digests(private, record):
            return told
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    shutil.rmtree(private, ignore_errors=True)
    return None


def _mac(content: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, canonical_json(content).encode(), hashlib.sha256).hexdigest()


def _digests(folder: Path, record: str) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): sha256_of(path) for path in files if path != folder / record}


def _state_folder() -> Path:
    """Where programs keep their state (XDG Base Directory Specification 0.8)."""
    named = os.environ.get("XDG_STATE_HOME", "")
    return Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "state"


def _read(file: Path) -> bytes | None:
    """The key in `file`, if nobody but its owner could have written or read it."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        told = os.fstat(handle)
        private = stat.S_ISREG(told.st_mode) and told.st_uid == os.geteuid() and not told.st_mode & 0o077
        key = stream.read(_BYTES + 1) if private else b""
    return key if len(key) == _BYTES else None


def _make(file: Path) -> bytes | None:
    """Write a new key to `file`, unless another process was faster: then that is the key."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=".key-", dir=file.parent)  # 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, file)
    finally:
        Path(partial).unlink()
    return _read(file)
