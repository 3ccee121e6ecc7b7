"""Attestations where other tools look for them: manifests that refer to the artifact by ``subject``."""

from __future__ import annotations

from edgec.bundle.files import BundleFile
from edgec.publish.oci.records import (
    ATTESTED,
    EMPTY,
    INDEX_TYPE,
    MANIFEST_TYPE,
    TARGET,
    ArtifactManifest,
    Descriptor,
    ImageIndex,
    describe,
    layer_of,
    parse_document,
)
from edgec.publish.oci.registry import Repository
from edgec.publish.oci.tags import Tag
from edgec.publish.transfer import Patience, persist
from edgec.workers.worker import Progress

ROUNDS = 5
"""How often the list of referrers is added to when others overwrite it."""


def referrers_tag(digest: str) -> str:
    """``sha256-<hex>``: the tag of an artifact's referrers (distribution-spec 1.1, "Referrers Tag Schema")."""
    return digest.replace(":", "-", 1)


def attach(
    repository: Repository, artifact: Descriptor, file: BundleFile, target: str, patience: Patience, progress: Progress
) -> None:
    """Make an attestation, whose blob is there already, refer to an artifact.

    A registry with the referrers API lists it by itself and says so; for others the list is the index under
    `referrers_tag`, which edgec adds to.
    """
    subject = Descriptor(media_type=artifact.media_type, digest=artifact.digest, size=artifact.size)
    record = ArtifactManifest(
        artifact_type=ATTESTED, config=EMPTY, layers=(layer_of(file),), subject=subject, annotations={TARGET: target}
    )
    own = describe(record).model_copy(update={"annotations": {TARGET: target}})
    what = f"{target}: attach its attestations"
    listed = persist(
        lambda: repository.put_document(own.digest, record.to_bytes(), MANIFEST_TYPE), patience, progress, what
    )
    if not listed:
        _list(Tag(repository, referrers_tag(artifact.digest), patience, progress), own)


def _list(tag: Tag, own: Descriptor) -> None:
    for _ in range(ROUNDS):
        document = tag.read()
        known: tuple[Descriptor, ...] = ()
        if document is not None:
            known = parse_document(ImageIndex, document.content, document.media_type, str(tag)).manifests
        if own.digest in {entry.digest for entry in known}:
            return
        tag.write(ImageIndex(media_type=INDEX_TYPE, manifests=(*known, own)))
    tag.progress(f"{tag}: others keep overwriting the list of attestations; the bundle has them all the same")
