"""Atomic writes of files, and their sizes and digests."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgec.errors import StorageError
from edgec.storage.temporary import private_folder

_HINTS = {
    errno.ENOSPC: "free some space, or write to another file system with --out",
    errno.EDQUOT: "your disk quota is used up: free some space, or write elsewhere with --out",
    errno.EROFS: "the file system is read-only: write elsewhere with --out",
    errno.EACCES: "you may not write there: change the permissions, or write elsewhere with --out",
    errno.EPERM: "you may not write there: change the permissions, or write elsewhere with --out",
}


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError with a hint.

    Args:
        where: path that the error concerns, where the system states none.
    """
    try:
        yield
    except OSError as exc:
        message, hint = (exc.strerror or str(exc)).lower(), _HINTS.get(exc.errno or 0, "")
        raise StorageError(f"cannot write: {message}", where=str(exc.filename or where), hint=hint) from exc


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the content of `path` atomically, flushed to disk first; several writers may do so at the same time.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        with private_folder(path.parent, f".{path.name}-") as folder:
            partial = folder / path.name
            with partial.open("wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror or exc}", where=str(path)) from exc


def empty_folder(folder: Path) -> None:
    """Make a folder, or remove everything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def compressed_size(path: Path) -> int:
    """Bytes that a file takes once deflated at zlib's default level, as gzip and zip do; headers not counted."""
    packer, total = zlib.compressobj(), 0
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            total += len(packer.compress(part))
    return total + len(packer.flush())


def sha256_of(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
