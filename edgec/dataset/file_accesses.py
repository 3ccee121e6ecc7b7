"""The files that code of the project reads: data entries and metrics may open files that edgec.toml does not name.

Python reports every file that it opens, and every folder that it lists, by audit events (PEP 578). Files that native
code opens by itself are not seen; those named in edgec.toml are known anyway.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.frozen import digest_json

IMPORTLIB = str(Path(importlib.__file__).parent) + os.sep
"""importlib looks for packages in all of ``sys.path``, the project's folder included."""
_BACKPORT = f"{os.sep}importlib_metadata{os.sep}"
"""The backport from PyPI: once imported, it looks in place of Python's own."""
OWN_NAMES = frozenset({"edgec.lock", "targets", "__pycache__"})
"""Names that edgec and Python write into a project; the target itself is part of each key."""

_listening: list[set[str]] = []


def _record_event(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listening:
        return
    if event == "open":
        path, mode, flags = arguments
        if isinstance(mode, str) and set(mode) & set("wax+"):
            return
        if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event in ("os.listdir", "os.scandir"):
        path = arguments[0]
        if _is_import(sys._getframe(1).f_code.co_filename):
            return  # the list of modules is not content; those imported are opened
        path = os.curdir if path is None else path
    else:
        return
    if isinstance(path, (str, bytes)):
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100  # the current folder may change until it is looked at
        for names in _listening:
            names.add(name)


def _is_import(file: str) -> bool:
    return file.startswith(("<frozen importlib", IMPORTLIB)) or file == pkgutil.__file__ or _BACKPORT in file


_hooked: list[bool] = []


@dataclass
class FileAccesses:
    """Files and folders that were read; complete when the context of `record_file_accesses` ends."""

    files: set[Path] = field(default_factory=set)
    """Regular files, but for Python's own."""
    folders: set[Path] = field(default_factory=set)
    """Folders of the project whose names were asked for."""


@contextmanager
def record_file_accesses(root: Path, *apart: Path) -> Iterator[FileAccesses]:
    """Record what Python opens for reading while the context is open.

    Args:
        root: the project's folder: listings of others are left out.
        apart: files and folders that are left out.
    """
    if not _hooked:
        sys.addaudithook(_record_event)  # for good: hooks cannot be removed
        _hooked.append(True)
    names: set[str] = set()
    accesses = FileAccesses()
    _listening.append(names)
    try:
        yield accesses
    finally:
        _listening[:] = [item for item in _listening if item is not names]
    system = [Path(name) for name in ("/proc", "/sys", "/dev", "/etc", sys.prefix, sys.base_prefix, sys.exec_prefix)]
    system += [Path(name) for name in sysconfig.get_paths().values()]
    package = Path(__file__).parents[1]
    system += [package, package / "backends", package / "targets"]  # in a checkout the latter two are links
    ignored = {path.resolve() for path in (*system, *apart)}
    temporary, project = Path(tempfile.gettempdir()).resolve(), root.resolve()
    for path in map(_source, sorted(names)):
        real = path.resolve()
        above = (real, *real.parents)
        if not ignored.isdisjoint(above):
            continue
        if path.is_dir():
            if project in above:
                accesses.folders.add(path)
        elif path.is_file() and (temporary not in above or project in above):
            accesses.files.add(path)


def _source(name: str) -> Path:
    """The file itself; of compiled Python code the source, which is not opened while the compiled code is of it."""
    if name.endswith(".pyc"):
        try:
            return Path(importlib.util.source_from_cache(name))
        except ValueError:  # code without a source
            pass
    return Path(name)


def digest_names(folder: Path, *apart: Path) -> str:
    """SHA-256 (hex) of the sorted names in a folder, without hidden ones, `OWN_NAMES`, and those `apart`.

    Raises:
        OSError: it cannot be read.
    """
    out = {path.resolve() for path in apart}
    names = [path.name for path in folder.iterdir() if path.resolve() not in out]
    return digest_json(sorted(name for name in names if not name.startswith(".") and name not in OWN_NAMES))
