"""What a location says of a bundle is not trusted: what could leave the bundle's folder or not be stored is refused."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath

from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM
from edgec.errors import PublishError
from edgec.publish.store import RemoteBundle
from edgec.target.spec import check_name

MAX_FILES = 10_000
"""Files of one bundle."""
MAX_SIZE = 1 << 40
"""Bytes of one file."""
MAX_READ_WHOLE = 64 << 20
"""Bytes of a file that is parsed, for which memory is needed."""
MAX_PART = 255
"""UTF-8 bytes of a file's or folder's name: the limit of Linux's file systems."""
MAX_NAME = 1024
"""UTF-8 bytes of a whole path in a bundle."""

_READ_WHOLE = frozenset({MANIFEST, ATTESTATIONS, SBOM})
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def check_target(name: str, where: str, hint: str) -> None:
    """Refuse a name that cannot be a target's, before it is told, matched, or made part of a path.

    Raises:
        PublishError: names it; control characters are escaped.
    """
    try:
        check_name(name)
    except ValueError as exc:
        what = f"what the location has is refused: {name!a} cannot be the name of a target"
        raise PublishError(what, where=where, hint=hint) from exc


def check_remote_bundle(offer: RemoteBundle, where: str) -> None:
    """Refuse an offer that is no bundle, or whose files would not stay below one folder on any file system.

    Raises:
        PublishError: names what is wrong; control characters in it are escaped.
    """
    problem = _problem(offer)
    if problem:
        hint = "it was not published by edgec, or was tampered with: do not use it"
        raise PublishError(f"what the location says of {offer.target!a} is refused: {problem}", where=where, hint=hint)


def _problem(offer: RemoteBundle) -> str:
    try:
        check_name(offer.target)
    except ValueError as exc:
        return ascii(str(exc))
    if len(offer.files) > MAX_FILES:
        return f"{len(offer.files)} files; a bundle has {MAX_FILES} at most"
    for file in offer.files:
        if problem := name_problem(file.name):
            return f"{file.name!a}: {problem}"
        if not _SHA256.match(file.sha256):
            return f"{file.name!a}: {file.sha256!a} is not a SHA-256"
        if not 0 <= file.size <= (MAX_READ_WHOLE if file.name in _READ_WHOLE else MAX_SIZE):
            return f"{file.name!a}: {file.size} bytes cannot be"
    if MANIFEST not in {file.name for file in offer.files}:
        return f"it has no {MANIFEST}"
    return _collision(offer)


def name_problem(name: str) -> str:
    """Why a path may not be that of a file in a bundle; empty when it may."""
    if name.startswith("/"):
        return "an absolute path"
    if "\\" in name or ":" in name:
        return "a backslash or colon in a name"
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for letter in name):
        return "a control character in a name"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the bundle"
    if "" in parts or "." in parts:
        return "an empty part in a path"
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in parts):
        return "a name that is too long"
    return ""


def _collision(offer: RemoteBundle) -> str:
    """Two names that are one on a file system without case or Unicode forms, or a name of both a file and a folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for file in offer.files:
        if _folded(file.name) in files:
            return f"{file.name!a} and {files[_folded(file.name)]!a} are one file on some file systems"
        files[_folded(file.name)] = file.name
        for parent in PurePosixPath(file.name).parents[:-1]:
            known = folders.setdefault(_folded(str(parent)), str(parent))
            if known != str(parent):
                return f"{str(parent)!a} and {known!a} are one folder on some file systems"
    both = sorted(files.keys() & folders.keys())
    return f"{files[both[0]]!a} is both a file and a folder" if both else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
