"""Tags of a repository that name builds.

``edgec publish`` writes one index of all its bundles under the tag itself. ``edgec publish --add`` writes an index of
one bundle under a tag for each target, ``<tag>-<target>``: registries have no conditional writes, and publishers that
share no tag cannot overwrite each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
    Document,
    ImageIndex,
    digest_of,
    parse_document,
)
from edgec.publish.oci.registry import Repository
from edgec.publish.transfer import RetryPolicy, retry
from edgec.publish.untrusted import check_target
from edgec.workers.worker import Progress

T = TypeVar("T")


@dataclass(frozen=True)
class Tag:
    """A tag or digest of a repository, read and written with retries."""

    repository: Repository
    name: str
    policy: RetryPolicy
    progress: Progress

    def __str__(self) -> str:
        return f"{self.repository}:{self.name}"

    def of_target(self, target: str) -> Tag:
        """The tag that ``--add`` writes for one target."""
        return replace(self, name=f"{self.name}-{target}")

    def read(self) -> Document | None:
        """The document that the tag names; None where it does not exist."""
        return self.retry(f"read {self}", lambda: self.repository.document(self.name))

    def write(self, index: ImageIndex) -> None:
        """Make the tag name `index`."""
        content = index.to_bytes()
        self.retry(f"write {self}", lambda: self.repository.put_document(self.name, content, INDEX_TYPE))

    def added(self) -> dict[str, Descriptor]:
        """The bundles of the tags that ``--add`` wrote, by target; other tags with the same prefix are ignored.

        Raises:
            PublishError: such a tag names a damaged index.
        """
        prefix = f"{self.name}-"
        bundles: dict[str, Descriptor] = {}
        for name in self.retry(f"list the tags of {self.repository}", self.repository.tags):
            if not name.startswith(prefix):
                continue
            tag = self.of_target(name.removeprefix(prefix))
            document = tag.read()
            if document is None or BUILD.encode() not in document.content:
                continue
            entries = entries_of(document, str(tag))
            if [prefix + target for target in entries] == [name]:
                bundles |= entries
        return bundles

    def retry(self, what: str, action: Callable[[], T]) -> T:
        """Do something in the repository, again after connection errors; `what` names it for messages."""
        return retry(action, self.policy, self.progress, what)


def entries_of(document: Document, where: str) -> dict[str, Descriptor]:
    """The bundles of an index that edgec wrote.

    Args:
        document: of the registry.
        where: the tag or digest, for messages.

    Returns:
        Target -> descriptor of the bundle's manifest.

    Raises:
        PublishError: another tool wrote the document, or an entry has no valid target.
    """
    index = parse_document(ImageIndex, document, where)
    if index.artifact_type != BUILD:
        kind = printable(str(index.artifact_type))
        raise PublishError(f"this is an OCI index that edgec did not write ({kind})", where=where)
    entries: dict[str, Descriptor] = {}
    for entry in index.manifests:
        target = entry.annotation(TARGET)
        if target:
            check_target(target, where, "edgec did not write this index: do not use it")
        if not target or target in entries:
            problem = f"it names {target!a} twice" if target else f"an entry has no target (annotation {TARGET})"
            raise PublishError(f"the index is damaged: {problem}", where=where, hint="publish again without --add")
        entries[target] = entry
    return entries


def refuse_foreign(document: Document | None, where: str) -> None:
    """Refuse a tag that names something that edgec did not publish.

    Args:
        document: that the tag names; None: the tag does not exist.
        where: the tag, for messages.

    Raises:
        PublishError: the tag is in use.
    """
    if document is None:
        return
    hint = "publish under another tag or repository"
    try:
        expected = ArtifactManifest if document.media_type == MANIFEST_TYPE else ImageIndex
        kind = parse_document(expected, document, where).artifact_type
    except PublishError as exc:
        raise PublishError(f"this tag is in use: {exc.what}", where=where, hint=hint) from exc
    if kind not in {BUILD, BUNDLE}:
        raise PublishError("this tag is in use by something that edgec did not publish", where=where, hint=hint)


@dataclass(frozen=True)
class WriteResult:
    """What `write_build` did."""

    digest: str
    """Of the index."""
    changed: bool
    """False when the tag named this index before."""
    notes: tuple[str, ...] = ()
    """What the user should know, one line each."""


def write_build(tag: Tag, bundles: Mapping[str, Descriptor], before: Document | None) -> WriteResult:
    """Make a tag name exactly these bundles.

    Args:
        tag: to write.
        bundles: target -> descriptor of the bundle's manifest, which is in the registry.
        before: what the tag named before.
    """
    index = ImageIndex(artifact_type=BUILD, manifests=tuple(bundles[target] for target in sorted(bundles)))
    digest = digest_of(index.to_bytes())
    if before is not None and before.digest == digest:
        return WriteResult(digest, changed=False)
    tag.write(index)
    after = tag.read()
    if after is not None and after.digest == digest:
        return WriteResult(digest, changed=True)
    note = f"another publisher moved {tag} in the meantime: this build is at {tag.repository}@{digest}"
    return WriteResult(digest, changed=True, notes=(note,))
