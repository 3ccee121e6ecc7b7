"""Attestations for other tools: manifests that refer to the bundle's manifest by ``subject``."""

from __future__ import annotations

from dataclasses import replace

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
    descriptor_of,
    layer_of,
    parse_document,
)
from edgec.publish.oci.tags import Tag

ROUNDS = 5
"""Attempts to add to the list of referrers when other publishers overwrite it."""


def referrers_tag(digest: str) -> str:
    """``sha256-<hex>``: the tag of an artifact's referrers (distribution-spec 1.1, "Referrers Tag Schema")."""
    return digest.replace(":", "-", 1)


def attach(tag: Tag, artifact: Descriptor, file: BundleFile, target: str) -> None:
    """Publish a manifest that makes an attestation a referrer of an artifact.

    A registry with the referrers API lists it by itself and states so; for others the list is the index under
    `referrers_tag`, which edgec adds to.

    Args:
        tag: of the repository that has the artifact and the blob of the attestation.
        artifact: the bundle's manifest.
        file: the attestations.
        target: of the bundle, for annotations and messages.
    """
    subject = Descriptor(media_type=artifact.media_type, digest=artifact.digest, size=artifact.size)
    record = ArtifactManifest(
        artifact_type=ATTESTED, config=EMPTY, layers=(layer_of(file),), subject=subject, annotations={TARGET: target}
    )
    own = descriptor_of(record).model_copy(update={"annotations": {TARGET: target}})
    listed = tag.retry(
        f"{target}: attach its attestations",
        lambda: tag.repository.put_document(own.digest, record.to_bytes(), MANIFEST_TYPE),
    )
    if not listed:
        _list(replace(tag, name=referrers_tag(artifact.digest)), own)


def _list(tag: Tag, own: Descriptor) -> None:
    for _ in range(ROUNDS):
        document = tag.read()
        known: tuple[Descriptor, ...] = ()
        if document is not None:
            known = parse_document(ImageIndex, document, str(tag)).manifests
        if own.digest in {entry.digest for entry in known}:
            return
        tag.write(ImageIndex(media_type=INDEX_TYPE, manifests=(*known, own)))
    tag.progress(f"{tag}: other publishers keep overwriting the list of attestations; the bundle itself has them")
