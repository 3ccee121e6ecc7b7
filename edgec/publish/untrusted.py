"""Checks of a location's description of a bundle, which is not trusted, before anything is written."""

from __future__ import annotations

import re

from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM
from edgec.bundle.names import MAX_FILES, collision, name_problem
from edgec.errors import PublishError
from edgec.publish.store import RemoteBundle
from edgec.target.spec import check_name

MAX_SIZE = 1 << 40
"""Bytes of one file."""
MAX_READ_WHOLE = 64 << 20
"""Bytes of a file that is parsed, for which memory is needed."""

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
    return collision(file.name for file in bundle.files)
