"""Making a tag of a registry name an index, also when others do so at the same time.

Registries cannot compare and swap: who writes a tag overwrites what came since it was read. So whoever adds to an
index looks again after a while, longer than another publisher takes from its reading to its writing, and adds once
more when what it wrote is gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from edgec.errors import PublishError, printable
from edgec.publish.oci.records import (
    BUILD,
    BUNDLE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    TARGET,
    ArtifactManifest,
    Descriptor,
    ImageIndex,
    digest_of,
    parse_document,
)
from edgec.publish.oci.registry import Document, Repository
from edgec.publish.transfer import Patience, persist
from edgec.publish.untrusted import check_target
from edgec.workers.worker import Progress

T = TypeVar("T")

SETTLE = 1.0
"""Seconds between writing an index that was added to and looking whether it is still there."""
ROUNDS = 12
"""How often an index is added to anew."""


@dataclass(frozen=True)
class Written:
    """What a tag names now."""

    digest: str
    index: ImageIndex
    changed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tag:
    """A tag of a repository, and how patiently it is read and written."""

    repository: Repository
    name: str
    patience: Patience
    progress: Progress

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"

    def read(self) -> Document | None:
        """What it names; None: nothing."""
        return self._insist(f"read {self}", lambda: self.repository.document(self.name))

    def write(self, index: ImageIndex) -> None:
        """Make it name `index`."""
        content = index.to_bytes()
        self._insist(f"write {self}", lambda: self.repository.put_document(self.name, content, INDEX_TYPE))

    def _insist(self, what: str, action: Callable[[], T]) -> T:
        return persist(action, self.patience, self.progress, what)


def entries_of(index: ImageIndex, where: str) -> dict[str, Descriptor]:
    """The artifacts of an index of edgec's by target.

    Raises:
        PublishError: it is another's, or does not say of each what it is for.
    """
    if index.artifact_type != BUILD:
        kind = printable(str(index.artifact_type))
        raise PublishError(f"this is an OCI index that edgec did not write ({kind})", where=where)
    found: dict[str, Descriptor] = {}
    for entry in index.manifests:
        target = entry.note(TARGET)
        if target:
            check_target(target, where, "edgec did not write this index: do not use it, or publish without --add")
        if not target or target in found:
            problem = f"it names {target!a} twice" if target else f"an entry has no target (annotation {TARGET})"
            raise PublishError(f"the index is damaged: {problem}", where=where, hint="publish again without --add")
        found[target] = entry
    return found


def build_index(entries: Mapping[str, Descriptor]) -> ImageIndex:
    """The index over artifacts, in order of target."""
    return ImageIndex(artifact_type=BUILD, manifests=tuple(entries[target] for target in sorted(entries)))


def refuse_foreign(document: Document | None, where: str) -> None:
    """Raise PublishError when a tag names what edgec did not publish."""
    if document is None:
        return
    hint = "publish under another tag or repository"
    try:
        if document.media_type == MANIFEST_TYPE:
            kind = parse_document(ArtifactManifest, document.content, document.media_type, where).artifact_type
        else:
            kind = parse_document(ImageIndex, document.content, document.media_type, where).artifact_type
    except PublishError as exc:
        raise PublishError(f"something else has this tag: {exc.what}", where=where, hint=hint) from exc
    if kind not in {BUILD, BUNDLE}:
        raise PublishError("something that edgec did not publish has this tag", where=where, hint=hint)


def replace_index(tag: Tag, own: Mapping[str, Descriptor], before: Document | None) -> Written:
    """Make a tag name exactly `own`."""
    index = build_index(own)
    digest = digest_of(index.to_bytes())
    if before is not None and before.digest == digest:
        return Written(digest, index, changed=False)
    tag.write(index)
    found = tag.read()
    if found is not None and found.digest == digest:
        return Written(digest, index, changed=True)
    told = f"another publisher moved {tag} meanwhile: what was published now is at {tag.repository}@{digest}"
    return Written(digest, index, changed=True, notes=(told,))


def add_to_index(tag: Tag, own: Mapping[str, Descriptor]) -> Written:
    """Make a tag name `own` and all else that it names, also what others add at the same time.

    Raises:
        PublishError: others keep overwriting it.
    """
    changed = False
    for attempt in range(ROUNDS):
        began = time.monotonic()
        known, digest = _known(tag)
        index = build_index({**known, **own})
        if build_index(known) == index:
            return Written(digest, index, changed)
        tag.write(index)
        changed = True
        tag.progress(f"{tag}: see whether others add to it")
        time.sleep(max(SETTLE, 4 * (time.monotonic() - began)))
        now, digest = _known(tag)
        lost = [target for target, entry in own.items() if _is_lost(entry, now.get(target), known.get(target))]
        if not lost:
            replaced = sorted(target for target, entry in own.items() if now[target] != entry)
            notes = (f"another publisher replaced {', '.join(replaced)} meanwhile",) if replaced else ()
            return Written(digest, build_index(now), changed, notes)
        tag.progress(f"{tag}: another publisher overwrote {', '.join(lost)}; added again")
        time.sleep(random.uniform(0, 0.1 * (attempt + 1)))
    raise PublishError(
        f"other publishers overwrote the index {ROUNDS} times",
        where=str(tag),
        hint="publish again when they are done, or publish all targets by one command",
    )


def _is_lost(own: Descriptor, now: Descriptor | None, before: Descriptor | None) -> bool:
    """Whether somebody wrote an index made from what was there before; another entry is a publish after ours."""
    return now is None or (now == before and now != own)


def _known(tag: Tag) -> tuple[dict[str, Descriptor], str]:
    """Entries and digest of the index that a tag names; nothing, where it names nothing."""
    document = tag.read()
    if document is None:
        return {}, ""
    refuse_foreign(document, str(tag))
    if document.media_type == MANIFEST_TYPE:
        raise PublishError("the tag names one bundle, no index", where=str(tag), hint="publish there without --add")
    index = parse_document(ImageIndex, document.content, document.media_type, str(tag))
    return entries_of(index, str(tag)), document.digest
