"""Bundles in an OCI registry: an artifact for each target, and one index over all targets of a build (see `Store`).

An artifact is an image manifest without configuration whose layers are the bundle's files; `edgec.publish.oci.records`
has the details. A tag is resolved once; all requests after that are by digest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

from edgec.bundle.files import BundleFile
from edgec.bundle.formats import media_types
from edgec.bundle.manifest import ATTESTATIONS
from edgec.errors import BackendUnavailableError, PublishError, UsageError
from edgec.publish.location import MAX_TAG, OciLocation
from edgec.publish.oci.records import (
    BUILD,
    BUNDLE,
    EMPTY,
    EMPTY_CONTENT,
    MANIFEST_TYPE,
    SIGNED,
    TARGET,
    ArtifactManifest,
    Descriptor,
    artifact_of,
    descriptor_of,
    file_of,
    layer_of,
    parse_document,
    platform_of,
)
from edgec.publish.store import ByteStream, LocalBundle, NothingPublishedError, PublishResult, RemoteBundle
from edgec.publish.transfer import RetryPolicy, mebibytes
from edgec.publish.untrusted import check_target
from edgec.workers.worker import Progress

try:
    from edgec.publish.oci.connection import Connection
    from edgec.publish.oci.referrers import attach
    from edgec.publish.oci.registry import FileBody, Repository
    from edgec.publish.oci.tags import Tag, entries_of, refuse_foreign, write_build
except ModuleNotFoundError as exc:
    raise BackendUnavailableError(
        f"publishing to a registry needs a package that is not installed: {exc.name}", hint="pip install 'edgec[oci]'"
    ) from exc


class OciStore:
    """A repository of a registry, and a tag or digest of it."""

    def __init__(self, location: OciLocation, policy: RetryPolicy) -> None:
        self._location = location
        self._policy = policy
        self._repository = Repository(Connection(location.registry, policy), location.repository)

    def publish(self, bundles: Sequence[LocalBundle], *, add: bool, progress: Progress) -> PublishResult:
        """See `edgec.publish.store.Store.publish`."""
        if self._location.digest:
            raise UsageError("a digest cannot be published to", where=str(self._location), hint="name a tag")
        tag = Tag(self._repository, self._location.tag, self._policy, progress)
        targets = [bundle.target for bundle in bundles]
        builds = {tag.of_target(target): [target] for target in targets} if add else {tag: targets}
        if long := [one.name for one in builds if len(one.name) > MAX_TAG]:
            hint = f"a tag has {MAX_TAG} characters at most: choose a shorter one"
            raise UsageError(f'--add: the tag "{long[0]}" is too long', where=str(self._location), hint=hint)
        before = {one: one.read() for one in (tag, *builds)}
        for one, document in before.items():
            refuse_foreign(document, str(one))
        if add and before[tag] is not None:
            hint = "publish all bundles in one command, or add them under another tag"
            raise PublishError(
                "--add: this tag names a build that was published by one command", where=str(self._location), hint=hint
            )
        sender = _Sender(tag)
        own = {bundle.target: sender.send(bundle) for bundle in bundles}
        results = [write_build(one, {name: own[name] for name in names}, before[one]) for one, names in builds.items()]
        exact = replace(self._location, digest=results[0].digest) if len(results) == 1 else self._location
        return PublishResult(
            reference=str(exact),
            targets=tuple(sorted(tag.added() if add else own)),
            sent=len(sender.sent),
            sent_bytes=sum(sender.sent.values()),
            kept=len(sender.kept),
            changed=bool(sender.sent) or any(result.changed for result in results),
            notes=tuple(note for result in results for note in result.notes),
        )

    def read(self, progress: Progress) -> OciSnapshot:
        """See `edgec.publish.store.Store.read`."""
        where = str(self._location)
        tag = Tag(self._repository, self._location.digest or self._location.tag, self._policy, progress)
        document = tag.read()
        if document is None:
            entries = {} if self._location.digest else tag.added()
            if not entries:
                hint = "publish there, or name a tag that edgec published: oci://HOST/REPOSITORY:TAG"
                raise NothingPublishedError("nothing is published there", where=where, hint=hint)
        elif document.media_type == MANIFEST_TYPE:
            manifest = parse_document(ArtifactManifest, document, where)
            artifact = Descriptor(media_type=MANIFEST_TYPE, digest=document.digest, size=len(document.content))
            entries = {_target_of(manifest, where): artifact}
        else:
            entries = entries_of(document, where)
        return OciSnapshot(tag, entries)


class OciSnapshot:
    """The bundles of a tag or digest as they were when it was read (see `Snapshot`)."""

    def __init__(self, tag: Tag, entries: Mapping[str, Descriptor]) -> None:
        self._tag = tag
        self._entries = entries

    @property
    def targets(self) -> tuple[str, ...]:
        """See `edgec.publish.store.Snapshot.targets`."""
        return tuple(sorted(self._entries))

    def bundle(self, target: str) -> RemoteBundle:
        """See `edgec.publish.store.Snapshot.bundle`."""
        entry = self._entries[target]
        repository = self._tag.repository
        where = f"{repository}@{entry.digest}"
        document = self._tag.retry(f"{target}: read its manifest", lambda: repository.document(entry.digest))
        hint = "publish again there"
        if document is None:
            raise PublishError(f"the manifest of {target} is missing in the registry", where=where, hint=hint)
        if len(document.content) != entry.size or entry.media_type != MANIFEST_TYPE:
            raise PublishError(f"the index states a wrong size or type for {target}", where=where, hint=hint)
        manifest = parse_document(ArtifactManifest, document, where)
        if (stated := _target_of(manifest, where)) != target:
            raise PublishError(f"the index states the target {target!a}, the manifest {stated!a}", where=where)
        files = tuple(file_of(layer, where) for layer in manifest.layers)
        return RemoteBundle(target=target, files=files, offer=entry.annotation(SIGNED))

    def open(self, target: str, file: BundleFile, start: int) -> AbstractContextManager[ByteStream]:
        """See `edgec.publish.store.Snapshot.open`."""
        return self._tag.repository.open_blob(layer_of(file), start)


class _Sender:
    """Sends bundles to the repository of a tag and counts what it sent."""

    def __init__(self, tag: Tag) -> None:
        self.sent: dict[str, int] = {}
        """Digest -> bytes."""
        self.kept: set[str] = set()
        """Digests that the registry had."""
        self._tag = tag

    def send(self, bundle: LocalBundle) -> Descriptor:
        """Send a bundle's files, then its manifest and attestations; returns its entry of an index."""
        for file in bundle.files:
            body = FileBody(bundle.path / file.name, file, self._tag.progress)
            self._blob(layer_of(file), body, f"{bundle.target}: {file.name} ({mebibytes(file.size)})")
        self._blob(EMPTY, EMPTY_CONTENT, f"{bundle.target}: configuration")
        record = artifact_of(bundle.target, bundle.files, media_types(bundle.manifest))
        artifact = descriptor_of(record)
        self._tag.retry(
            f"{bundle.target}: manifest",
            lambda: self._tag.repository.put_document(artifact.digest, record.to_bytes(), MANIFEST_TYPE),
        )
        for file in bundle.files:
            if file.name == ATTESTATIONS:
                attach(self._tag, artifact, file, bundle.target)
        signed = {SIGNED: bundle.offer} if bundle.offer else {}
        annotations = {TARGET: bundle.target, **signed, **origin(os.environ)}
        return artifact.model_copy(
            update={"platform": platform_of(bundle.manifest.target.device), "annotations": annotations}
        )

    def _blob(self, blob: Descriptor, body: bytes | Iterable[bytes], what: str) -> None:
        if blob.digest in self.kept or blob.digest in self.sent:
            return

        def send_missing() -> None:
            if self._tag.repository.has_blob(blob):
                return
            self.sent[blob.digest] = blob.size
            self._tag.progress(what)
            self._tag.repository.put_blob(blob.digest, blob.size, body)

        self._tag.retry(what, send_missing)
        if blob.digest not in self.sent:
            self.kept.add(blob.digest)


def _target_of(manifest: ArtifactManifest, where: str) -> str:
    target = manifest.annotation(TARGET)
    if manifest.artifact_type != BUNDLE or not target:
        kind = manifest.artifact_type or manifest.config.media_type
        hint = f"name an index ({BUILD}) or an artifact ({BUNDLE}) that edgec published"
        raise PublishError(f"this is not a bundle that edgec published: {kind!a}", where=where, hint=hint)
    check_target(target, where, "edgec did not publish this: do not use it")
    return target


def origin(environment: Mapping[str, str]) -> dict[str, str]:
    """Annotations that state the source of a build, the same for each build of one commit.

    Args:
        environment: ``SOURCE_DATE_EPOCH`` (reproducible-builds.org) and the variables of GitHub Actions and GitLab CI
            are read.
    """
    annotations: dict[str, str] = {}
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and int(epoch) < 1 << 33:
        created = datetime.fromtimestamp(int(epoch), UTC)
        annotations["org.opencontainers.image.created"] = f"{created:%Y-%m-%dT%H:%M:%SZ}"
    if revision := environment.get("GITHUB_SHA") or environment.get("CI_COMMIT_SHA"):
        annotations["org.opencontainers.image.revision"] = revision
    server, repository = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if source := f"{server}/{repository}" if server and repository else environment.get("CI_PROJECT_URL"):
        annotations["org.opencontainers.image.source"] = source
    return annotations
