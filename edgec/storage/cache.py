"""Results on disk by the digest of all their inputs, for all projects of a user: nothing is computed twice.

An entry is a small JSON file and, where the result has files, a folder beside it. Both are written whole under a
private name and renamed, the JSON file last, so that processes may share a folder without locks. It carries digests of
all content: a damaged entry counts as absent and is written again. Entries never go stale, since everything that could
change a result is part of its key (`edgec.plan.identity`); the folder may be removed at any time. What was used least
recently goes first when it grows too large.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from edgec.errors import ProjectError, StorageError
from edgec.frozen import Frozen, canonical_json, digest_json
from edgec.storage.files import empty_folder, sha256_of, storage_errors, write_atomically
from edgec.storage.stops import stops_held
from edgec.storage.temporary import private_folder, sweep

Answer = TypeVar("Answer", bound=Frozen)
CACHE_VARIABLE, LIMIT_VARIABLE = "EDGEC_CACHE", "EDGEC_CACHE_GB"
DEFAULT_LIMIT_GB = 10.0
_FILES = ".files"
_ABANDONED = 3600.0
"""Seconds after which the files of an entry that was not written are taken for abandoned."""


@dataclass(frozen=True)
class CacheEntry:
    """One result on disk."""

    file: Path
    bytes: int
    used: float
    """When it was last written or read: seconds since 1970."""

    @property
    def what(self) -> str:
        """Kind of result; empty for an entry that cannot be read."""
        try:
            return str(json.loads(self.file.read_bytes())["what"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""


class Cache:
    """Entries of one folder, which is made when the first one is written.

    Args:
        folder: holds nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self.hits = 0
        """Entries that `get` has returned."""
        self.stored = 0
        """Entries that `put` has written."""
        self.problem = ""
        """Why `step` could not keep a result; empty: all were kept."""

    def get(self, key: str, out: Path | None = None) -> Any:
        """The JSON value under `key` (hex digits), or None.

        Args:
            key: of the entry.
            out: folder to copy the entry's files to; what it holds of them afterwards counts only with a value.
        """
        file = self._file(key)
        try:
            entry = json.loads(file.read_bytes())
            value, files = entry["value"], entry["files"]
            if entry["key"] != key or entry["sha256"] != digest_json([value, files]):
                return None
            if out is not None and not _copied(file.with_suffix(_FILES), files, out):
                return None
            os.utime(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        with self._lock:
            self.hits += 1
        return value

    def put(self, key: str, value: Any, files: Path | None = None, what: str = "result") -> None:
        """Keep a JSON value, not None, under `key`; the last of several writers wins.

        Args:
            key: of the entry.
            value: to keep.
            files: folder whose content is kept with it.
            what: kind of result.

        Raises:
            StorageError: the disk is full or read-only.
        """
        entry, digests = self._file(key), dict[str, str]()
        with storage_errors(self.folder), contextlib.ExitStack() as stack:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if files is not None:
                staged = stack.enter_context(private_folder(self.folder, "new-"))
                shutil.copytree(files, staged / "new")
                paths = [path for path in files.rglob("*") if path.is_file()]
                digests = {path.relative_to(files).as_posix(): sha256_of(path) for path in paths}
            all_of_it = [value, digests]
            content = {"key": key, "sha256": digest_json(all_of_it), "what": what, "value": value, "files": digests}
            with stops_held():
                if files is not None:
                    _exchange_files(staged, entry.with_suffix(_FILES))
                write_atomically(entry, canonical_json(content))
        with self._lock:
            self.stored += 1

    def step(
        self,
        what: str,
        inputs: Mapping[str, Any],
        kind: type[Answer],
        make: Callable[[], Answer],
        out: Path | None = None,
        keep: Callable[[Answer], bool] = lambda answer: True,
    ) -> Answer:
        """What `make` returns, or returned when a build had the same inputs; its errors are not kept.

        Args:
            what: kind of result.
            inputs: everything that it depends on, as JSON values.
            kind: class of the result.
            make: makes it.
            out: folder that `make` writes files to; made anew. None: it writes none.
            keep: whether to keep a result.
        """
        key = digest_json({"what": what, **inputs})
        if out is not None:
            empty_folder(out)
        value = self.get(key, out)
        if value is not None:
            return kind.model_validate_json(json.dumps(value))
        if out is not None:
            empty_folder(out)  # of what was copied before a damaged file was met
        answer = make()
        if keep(answer):
            self.keep(key, answer.plain(), out, what)
        return answer

    def keep(self, key: str, value: Any, files: Path | None = None, what: str = "result") -> None:
        """As `put`, but a disk that refuses is only noted in `problem`: what is not kept is computed again."""
        try:
            self.put(key, value, files, what)
        except StorageError as error:
            self.problem = str(error)

    def entries(self) -> Iterator[CacheEntry]:
        """All entries, in no order; those that vanish meanwhile are left out."""
        for file in self.folder.glob("*.json"):
            with contextlib.suppress(OSError):
                stat = file.stat()
                beside = [item.stat().st_size for item in file.with_suffix(_FILES).rglob("*") if item.is_file()]
                yield CacheEntry(file, stat.st_size + sum(beside), stat.st_mtime)

    def trim(self, limit: float) -> None:
        """Remove what was used least recently until the rest has at most `limit` bytes; 0 removes everything."""
        size = 0
        for entry in sorted(self.entries(), key=lambda item: -item.used):
            size += entry.bytes
            if size > limit:
                entry.file.unlink(missing_ok=True)
                shutil.rmtree(entry.file.with_suffix(_FILES), ignore_errors=True)
        sweep(self.folder, "")
        for folder in self.folder.glob(f"*{_FILES}"):  # of a process that was killed before it wrote the entry
            with contextlib.suppress(OSError):
                if not folder.with_suffix(".json").exists() and folder.stat().st_mtime < time.time() - _ABANDONED:
                    shutil.rmtree(folder, ignore_errors=True)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _exchange_files(staged: Path, folder: Path) -> None:
    """Put ``staged/new`` in place of `folder`."""
    with contextlib.suppress(FileNotFoundError):
        folder.rename(staged / "old")
    with contextlib.suppress(OSError):  # where another process was faster, its files serve
        (staged / "new").rename(folder)


def _copied(folder: Path, files: Mapping[str, str], out: Path) -> bool:
    """Copy files to `out`; whether all have their digests."""
    for name, digest in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, out / name)
        if sha256_of(out / name) != digest:
            return False
    return True


def user_cache() -> Cache:
    """The cache of this user: ``$EDGEC_CACHE``, else ``edgec`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Raises:
        ProjectError: the user has no home, and another one has taken the place in the folder of temporary files.
    """
    if folder := os.environ.get(CACHE_VARIABLE):
        return Cache(Path(folder))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Cache(Path(base, "edgec"))
    with contextlib.suppress(RuntimeError):  # this user has no home, as in some containers
        return Cache(Path.home() / ".cache" / "edgec")
    temporary = Path(tempfile.gettempdir(), f"edgec-cache-{os.getuid()}")
    if temporary.is_symlink() or (temporary.exists() and temporary.stat().st_uid != os.getuid()):
        raise ProjectError(
            "the folder for what is kept between builds belongs to another user",
            where=str(temporary),
            hint=f"set {CACHE_VARIABLE} to a folder of your own",
        )
    return Cache(temporary)


def cache_limit() -> float:
    """Bytes that the user's cache may take: ``$EDGEC_CACHE_GB`` times 1e9, 10e9 by default.

    Raises:
        ProjectError: the variable is not a number of gigabytes.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(text) if text else DEFAULT_LIMIT_GB
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ProjectError(f'"{text}" is not a number of gigabytes', where=f"${LIMIT_VARIABLE}", hint="such as 10")
    return limit * 1e9


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
