"""Results on disk by the digest of all their inputs: a killed run continues from them.

An entry is one small JSON file, written whole under a private name and renamed, so that processes may share a folder
without locks. It carries a digest of its content: a damaged entry counts as absent and is written again. Entries
never go stale, since everything that could change a result is part of its key (`edgec.ladder.results`); the folder may
be removed at any time.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

from edgec.frozen import canonical_json, digest_json
from edgec.storage.files import storage_errors, write_atomically


class Cache:
    """Entries of one folder, which is made when the first one is written.

    Args:
        folder: holds nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.hits = 0
        """Entries that `get` has returned."""
        self.stored = 0
        """Entries that `put` has written."""

    def get(self, key: str) -> Any:
        """The JSON value under `key` (hex digits), or None."""
        try:
            entry = json.loads(self._file(key).read_bytes())
            value = entry["value"]
            if entry["key"] != key or entry["sha256"] != digest_json(value):
                return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with self._lock:
            self.hits += 1
        return value

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value, not None, under `key`; the last of several writers wins.

        Raises:
            StorageError: the disk is full or read-only.
        """
        with storage_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        entry = {"key": key, "sha256": digest_json(value), "value": value}
        write_atomically(self._file(key), canonical_json(entry))
        with self._lock:
            self.stored += 1

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"


@cache
def code_digest(module: str) -> str:
    """SHA-256 (hex) over the Python files of a package or module: a version does not show edits."""
    digest = hashlib.sha256()
    imported = importlib.import_module(module)
    for root in map(Path, getattr(imported, "__path__", ())):
        for folder, _, names in sorted(os.walk(root, followlinks=True)):
            for file in (Path(folder, name) for name in sorted(names) if name.endswith(".py")):
                digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    if not hasattr(imported, "__path__") and imported.__file__:
        digest.update(Path(imported.__file__).read_bytes())
    return digest.hexdigest()
