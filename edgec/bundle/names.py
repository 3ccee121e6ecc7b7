"""The one rule for names of files in a bundle, which archives, locations and manifests are held to alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

MAX_FILES = 10_000
"""Files of one bundle."""
MAX_PART = 255
"""UTF-8 bytes of a file's or folder's name: the limit of Linux's file systems."""
MAX_NAME = 1024
"""UTF-8 bytes of a whole path in a bundle."""


def name_problem(name: str) -> str:
    """Why a path is not valid for a file of a bundle; empty when it is."""
    if name.startswith("/"):
        return "an absolute path"
    if "\\" in name or ":" in name:
        return "a backslash or colon in a name"
    if not name.isprintable():
        return "a control character, or another that cannot be printed, in a name"
    parts = name.split("/")
    if ".." in parts:
        return "a path that leaves the bundle"
    if "" in parts or "." in parts:
        return "an empty part in a path"
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in parts):
        return "a name that is too long"
    return ""


def collision(names: Iterable[str]) -> str:
    """Two names that are equal where case or Unicode forms are ignored, or a name of both a file and a folder.

    Args:
        names: that `name_problem` finds valid.

    Returns:
        What is wrong, with the names escaped; empty when nothing is.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        if _folded(name) in files:
            return f"{name!a} and {files[_folded(name)]!a} are one file on some file systems"
        files[_folded(name)] = name
        for parent in PurePosixPath(name).parents[:-1]:
            known = folders.setdefault(_folded(str(parent)), str(parent))
            if known != str(parent):
                return f"{str(parent)!a} and {known!a} are one folder on some file systems"
    both = sorted(files.keys() & folders.keys())
    return f"{files[both[0]]!a} is both a file and a folder" if both else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
