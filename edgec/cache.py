"""Results on disk by the digest of everything they were made from: a killed run goes on where it was.

An entry is one small JSON file, written whole under a private name and renamed, so that processes may share a folder
without locks. It carries a digest of its content: one that is damaged counts as absent and is written anew. Entries
never go stale, since whatever could change a result is part of its key (see `edgec.ladder.cells`); the folder may be
removed at any time.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from edgec.frozen import canonical_json, digest_json


class Cache:
    """Entries of one folder, which is made when the first one is written.

    Args:
        folder: where they are; nothing else should be there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self.found = 0
        """Entries that were asked for and there."""
        self.stored = 0
        """Entries that were written."""

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
            self.found += 1
        return value

    def put(self, key: str, value: Any) -> None:
        """Keep a JSON value, not None, under `key`; the last of several writers wins.

        Raises:
            OSError: the disk is full or read-only.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        entry = canonical_json({"key": key, "sha256": digest_json(value), "value": value})
        descriptor, partial = tempfile.mkstemp(prefix="partial-", dir=self._folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(entry)
            Path(partial).replace(self._file(key))
        except BaseException:
            with contextlib.suppress(OSError):
                Path(partial).unlink()
            raise
        with self._lock:
            self.stored += 1

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.json"
