"""The Python files that the user's code may import."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

IGNORED_FOLDERS = frozenset({"site-packages", "node_modules", "__pycache__"})
"""Folders whose Python files do not belong to a project; see `python_files` for others."""


def python_files(folder: Path) -> Iterator[Path]:
    """All Python files in `folder` and its subfolders, sorted within each.

    Left out are hidden folders, virtual environments, installed packages, and bundles: the benchmark
    harness that a build writes does not belong to the sources of the next build.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_seen(Path(place, name)))
        paths = (Path(place, name) for name in sorted(names) if name.endswith(".py"))
        yield from (path for path in paths if path.is_file())  # not a dangling link


def _is_seen(folder: Path) -> bool:
    if folder.name in IGNORED_FOLDERS or folder.name.startswith(".") or (folder / "pyvenv.cfg").exists():
        return False
    return not ((folder / "manifest.json").is_file() and any((folder / it).exists() for it in ("bench", "report.html")))
