"""Checks of a location's description of a bundle, which is not trusted, before anything is written."""

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
    """Refuse an invalid target name, before it is printed, matched, or made part of a path.

    Args:
        name: of a target.
        where: location, for the message.
        hint: what the user can do.

    Raises:
        PublishError: the name is invalid; its control characters are escaped in the message.
    """
    try:
        check_name(name)
    except ValueError as exc:
        what = f"the content of the location is refused: {name!a} is not a valid target name"
        raise PublishError(what, where=where, hint=hint) from exc


def check_remote_bundle(bundle: RemoteBundle, where: str) -> None:
    """Refuse a description that is not a bundle, or with files that do not stay in one folder on every file system.

    Args:
        bundle: as the location describes it.
        where: location, for the message.

    Raises:
        PublishError: the description is invalid; control characters are escaped in the message.
    """
    problem = _problem(bundle)
    if problem:
        hint = "edgec did not publish it, or it was tampered with: do not use it"
        raise PublishError(
            f"the content of the location is refused: {bundle.target!a}: {problem}", where=where, hint=hint
        )


def _problem(bundle: RemoteBundle) -> str:
    try:
        check_name(bundle.target)
    except ValueError as exc:
        return ascii(str(exc))
    if len(bundle.files) > MAX_FILES:
        return f"{len(bundle.files)} files; a bundle has {MAX_FILES} at most"
    for file in bundle.files:
        if problem := name_problem(file.name):
            return f"{file.name!a}: {problem}"
        if not _SHA256.match(file.sha256):
            return f"{file.name!a}: {file.sha256!a} is not a SHA-256"
        if not 0 <= file.size <= (MAX_READ_WHOLE if file.name in _READ_WHOLE else MAX_SIZE):
            return f"{file.name!a}: {file.size} bytes is not a valid size"
    if MANIFEST not in {file.name for file in bundle.files}:
        return f"it has no {MANIFEST}"
    return _collision(bundle)


def name_problem(name: str) -> str:
    """Why a path is not valid for a file of a bundle; empty when it is."""
    if name.startswith("/"):
        return "an absolute path"
    if "\\" in name or ":" in name:
        return "a backslash or colon in a name"
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for letter in name):
        return "a control character in a name"
    parts = name.split("/")
    if ".." in parts:
        return "a path that leaves the bundle"
    if "" in parts or "." in parts:
        return "an empty part in a path"
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in parts):
        return "a name that is too long"
    return ""


def _collision(bundle: RemoteBundle) -> str:
    """Two names that are equal where case or Unicode forms are ignored, or a name of both a file and a folder."""
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for file in bundle.files:
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
