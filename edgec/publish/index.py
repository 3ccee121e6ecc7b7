"""``index.json`` of a folder or bucket: its published bundles by target, with digest and size of each file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

from pydantic import Field, ValidationError

from edgec.bundle.files import BundleFile
from edgec.bundle.manifest import MANIFEST
from edgec.errors import PublishError
from edgec.frozen import Frozen, first_problem
from edgec.publish.store import LocalBundle
from edgec.publish.untrusted import check_target

INDEX = "index.json"
SCHEMA = 1
"""Version of the index's layout; a reader refuses a higher one."""
MAX_BYTES = 32 << 20
"""Size of an index beyond which it is not read."""


class Entry(Frozen):
    """One published bundle."""

    manifest: str
    """SHA-256 (hex) of its manifest.json, which identifies the bundle."""
    files: tuple[BundleFile, ...]
    """All its files, in order of name."""
    offer: str = ""
    """The signature of this entry (`edgec.publish.offer`); empty: it has none."""


class Index(Frozen):
    """The published bundles of a location."""

    kind: Literal["edgec index"] = "edgec index"
    schema_version: int = SCHEMA
    bundles: dict[str, Entry] = Field(default_factory=dict)
    """By target."""
    replacing: dict[str, Entry] = Field(default_factory=dict)
    """In a folder, during a publish or after it was killed: the bundles that replace targets of `bundles`."""

    def to_json(self) -> str:
        """The file's text: one key per line, sorted."""
        return json.dumps(self.plain(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def entries(bundles: Iterable[LocalBundle]) -> dict[str, Entry]:
    """The entries of an index for `bundles`, by target."""
    return {
        bundle.target: Entry(
            manifest=next(file.sha256 for file in bundle.files if file.name == MANIFEST),
            files=bundle.files,
            offer=bundle.offer,
        )
        for bundle in bundles
    }


def parse_index(text: bytes, where: str) -> Index:
    """Parse an ``index.json``.

    Args:
        text: content of the file.
        where: its path, for messages.

    Raises:
        PublishError: it is not an index, is damaged, has an invalid target name, or a newer edgec wrote it.
    """
    hint = "remove it, then publish there again"
    if len(text) > MAX_BYTES:
        raise PublishError(f"the index has more than {MAX_BYTES} bytes", where=where, hint=hint)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise PublishError(f"the index cannot be read: {exc}", where=where, hint=hint) from exc
    if not isinstance(content, dict) or content.get("kind") != "edgec index":
        raise PublishError("edgec did not write this index", where=where, hint="name another location")
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:
        what = f"a newer edgec wrote this index (schema {version}, this edgec reads {SCHEMA})"
        raise PublishError(what, where=where, hint="use a later edgec")
    try:
        index = Index.model_validate_json(text)
    except ValidationError as exc:
        raise PublishError(f"the index is damaged: {first_problem(exc)}", where=where, hint=hint) from exc
    for target, entry in [*index.bundles.items(), *index.replacing.items()]:
        check_target(target, where, "edgec did not write it, or it was tampered with: do not use it")
        if [file.sha256 for file in entry.files if file.name == MANIFEST] != [entry.manifest]:
            what = f"the index contradicts itself: {target!a} has no {MANIFEST} with the digest {entry.manifest!a}"
            raise PublishError(what, where=where, hint=hint)
    return index
