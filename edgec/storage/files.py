"""Atomic writes of files, and their sizes and digests."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from pathlib import Path

from edgec.errors import StorageError


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text` atomically, flushed to disk first; several writers may do so at the same time.

    Raises:
        StorageError: the file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            partial = Path(folder, path.name)
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror or exc}", where=str(path)) from exc


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
