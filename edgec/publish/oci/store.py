"""Bundles in an OCI registry: an artifact for each target, and one index over all targets of a build (see `Store`).

An artifact is an image manifest without configuration whose layers are the bundle's files; `oci_records` has the
details. A tag is resolved once; from the index on, everything is asked for by its digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

from edgec.bundle.files import BundleFile
from edgec.bundle.formats import media_types
from edgec.bundle.manifest import ATTESTATIONS
from edgec.errors import BackendUnavailableError, PublishError, UsageError
from edgec.publish.oci.records import (
    BUILD,
    BUNDLE,
    EMPTY,
    EMPTY_CONTENT,
    MANIFEST_TYPE,
    TARGET,
    ArtifactManifest,
    Descriptor,
    ImageIndex,
    artifact_of,
    describe,
    file_of,
    layer_of,
    parse_document,
    platform_of,
)
from edgec.publish.place import OciPlace
from edgec.publish.store import Body, NothingPublishedError, Offer, Outgoing, Published
from edgec.publish.transfer import Patience, mebibytes, persist
from edgec.publish.untrusted import check_target
from edgec.workers.worker import Progress

try:
    from edgec.publish.oci.connection import Connection
    from edgec.publish.oci.referrers import attach
    from edgec.publish.oci.registry import Repository
    from edgec.publish.oci.tags import Tag, add_to_index, entries_of, refuse_foreign, replace_index
except ModuleNotFoundError as exc:
    raise BackendUnavailableError(
        f"a registry needs the package {exc.name}, which is not installed", hint="pip install 'edgec[oci]'"
    ) from exc

T = TypeVar("T")


class OciStore:
    """A repository of a registry, and a tag or digest of it."""

    def __init__(self, place: OciPlace, patience: Patience) -> None:
        self._place = place
        self._patience = patience
        self._repository = Repository(Connection(place.registry, patience), place.repository)

    def publish(self, bundles: Sequence[Outgoing], *, add: bool, progress: Progress) -> Published:
        """See `edgec.publish.store.Store.publish`."""
        if self._place.digest:
            raise UsageError("a digest cannot be published to", where=str(self._place), hint="name a tag")
        tag = Tag(self._repository, self._place.tag, self._patience, progress)
        before = tag.read()
        refuse_foreign(before, str(self._place))
        sending = _Sending(self._repository, self._patience, progress)
        own = {bundle.target: sending.bundle(bundle) for bundle in bundles}
        written = add_to_index(tag, own) if add else replace_index(tag, own, before)
        return Published(
            reference=str(replace(self._place, digest=written.digest)),
            targets=tuple(sorted(entries_of(written.index, str(self._place)))),
            sent=len(sending.sent),
            sent_bytes=sum(sending.sent.values()),
            kept=len(sending.kept),
            changed=written.changed or bool(sending.sent),
            notes=written.notes,
        )

    def read(self, progress: Progress) -> OciSnapshot:
        """See `edgec.publish.store.Store.read`."""
        where = str(self._place)
        reference = self._place.digest or self._place.tag
        document = persist(lambda: self._repository.document(reference), self._patience, progress, f"read {where}")
        if document is None:
            hint = "publish there, or name a tag that edgec published: oci://HOST/REPOSITORY:TAG"
            raise NothingPublishedError("nothing is published there", where=where, hint=hint)
        if document.media_type == MANIFEST_TYPE:
            manifest = parse_document(ArtifactManifest, document.content, document.media_type, where)
            target = _target_of(manifest, where)
            artifact = Descriptor(media_type=MANIFEST_TYPE, digest=document.digest, size=len(document.content))
            entries = {target: artifact}
        else:
            entries = entries_of(parse_document(ImageIndex, document.content, document.media_type, where), where)
        return OciSnapshot(self._repository, entries, self._patience, progress)


class OciSnapshot:
    """What an index names, by digest."""

    def __init__(
        self, repository: Repository, entries: Mapping[str, Descriptor], patience: Patience, progress: Progress
    ) -> None:
        self._repository = repository
        self._entries = dict(entries)
        self._patience = patience
        self._progress = progress

    @property
    def targets(self) -> tuple[str, ...]:
        """See `edgec.publish.store.Snapshot.targets`."""
        return tuple(sorted(self._entries))

    def offer(self, target: str) -> Offer:
        """See `edgec.publish.store.Snapshot.offer`."""
        entry = self._entries[target]
        where = f"{self._repository}@{entry.digest}"
        document = persist(
            lambda: self._repository.document(entry.digest), self._patience, self._progress, f"{target}: read its list"
        )
        if document is None:
            hint = "publish again there; somebody deleted it, or the registry lost it"
            raise PublishError(f"the index names {target}, and the registry does not have it", where=where, hint=hint)
        if len(document.content) != entry.size or entry.media_type != MANIFEST_TYPE:
            raise PublishError(f"what the index says of {target} is wrong", where=where, hint="publish again there")
        manifest = parse_document(ArtifactManifest, document.content, document.media_type, where)
        if (said := _target_of(manifest, where)) != target:
            raise PublishError(f"the index says that this is {target!a}, it says {said!a}", where=where)
        return Offer(target=target, files=tuple(file_of(layer, where) for layer in manifest.layers))

    def open(self, target: str, file: BundleFile, start: int) -> AbstractContextManager[Body]:
        """See `edgec.publish.store.Snapshot.open`."""
        return self._repository.open_blob(layer_of(file), start)


class _Sending:
    """What is sent to a repository in one publish."""

    def __init__(self, repository: Repository, patience: Patience, progress: Progress) -> None:
        self.sent: dict[str, int] = {}
        """Digest -> bytes."""
        self.kept: set[str] = set()
        self._repository = repository
        self._patience = patience
        self._progress = progress

    def bundle(self, bundle: Outgoing) -> Descriptor:
        """Send a bundle's files, then its manifest and attestations; returns its entry of an index."""
        for file in bundle.files:
            put = _putter(self._repository, bundle, file, self._progress)
            self._blob(layer_of(file), put, f"{bundle.target}: {file.name} ({mebibytes(file.size)})")
        self._blob(
            EMPTY, lambda: self._repository.put_content(EMPTY.digest, EMPTY_CONTENT), f"{bundle.target}: configuration"
        )
        record = artifact_of(bundle.target, bundle.files, media_types(bundle.manifest))
        artifact = describe(record)
        self._insist(
            f"{bundle.target}: list of files",
            lambda: self._repository.put_document(artifact.digest, record.to_bytes(), MANIFEST_TYPE),
        )
        for file in bundle.files:
            if file.name == ATTESTATIONS:
                attach(self._repository, artifact, file, bundle.target, self._patience, self._progress)
        notes = {TARGET: bundle.target, **origin(os.environ)}
        return artifact.model_copy(
            update={"platform": platform_of(bundle.manifest.target.device), "annotations": notes}
        )

    def _blob(self, blob: Descriptor, put: Callable[[], None], what: str) -> None:
        if blob.digest in self.kept or blob.digest in self.sent:
            return

        def once() -> None:
            if self._repository.has_blob(blob):
                return
            self.sent[blob.digest] = blob.size
            self._progress(what)
            put()

        self._insist(what, once)
        if blob.digest not in self.sent:
            self.kept.add(blob.digest)

    def _insist(self, what: str, action: Callable[[], T]) -> T:
        return persist(action, self._patience, self._progress, what)


def _putter(repository: Repository, bundle: Outgoing, file: BundleFile, progress: Progress) -> Callable[[], None]:
    return lambda: repository.put_file(bundle.path / file.name, file, progress)


def _target_of(manifest: ArtifactManifest, where: str) -> str:
    target = (manifest.annotations or {}).get(TARGET, "")
    if manifest.artifact_type != BUNDLE or not target:
        kind = manifest.artifact_type or manifest.config.media_type
        hint = f"name an index ({BUILD}) or an artifact ({BUNDLE}) that edgec published"
        raise PublishError(f"this is no bundle of edgec's, but {kind!a}", where=where, hint=hint)
    check_target(target, where, "edgec did not publish this: do not use it")
    return target


def origin(environment: Mapping[str, str]) -> dict[str, str]:
    """Annotations on where a build is from, all of them the same for each build of one commit.

    ``SOURCE_DATE_EPOCH`` (reproducible-builds.org), and what GitHub Actions and GitLab CI set in each job.
    """
    found: dict[str, str] = {}
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and int(epoch) < 1 << 33:
        found["org.opencontainers.image.created"] = f"{datetime.fromtimestamp(int(epoch), UTC):%Y-%m-%dT%H:%M:%SZ}"
    if revision := environment.get("GITHUB_SHA") or environment.get("CI_COMMIT_SHA"):
        found["org.opencontainers.image.revision"] = revision
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if source := f"{server}/{repository}" if server and repository else environment.get("CI_PROJECT_URL"):
        found["org.opencontainers.image.source"] = source
    return found
