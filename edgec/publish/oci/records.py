"""Documents of an OCI registry: descriptors, artifact manifests, indexes (OCI image-spec 1.1.1).

Unknown keys are ignored, as the specification requires; a document of another type than expected is refused. Documents
are written as canonical JSON, so that the same content has the same digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from edgec.bundle.files import BundleFile
from edgec.bundle.manifest import ATTESTATIONS, MANIFEST, SBOM
from edgec.errors import PublishError
from edgec.frozen import canonical_json, first_problem
from edgec.target.architecture import ARCHITECTURES
from edgec.target.spec import Device

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
DOCKER_TYPES = {
    "application/vnd.docker.distribution.manifest.v2+json": "a docker image",
    "application/vnd.docker.distribution.manifest.list.v2+json": "a docker image for several platforms",
    "application/vnd.docker.distribution.manifest.v1+prettyjws": "a docker image of an old kind",
    "application/vnd.docker.distribution.manifest.v1+json": "a docker image of an old kind",
}
BUNDLE = "application/vnd.edgec.bundle.v1"
"""artifactType of a published bundle."""
BUILD = "application/vnd.edgec.build.v1"
"""artifactType of an index over the bundles that are published together."""
ATTESTED = "application/vnd.in-toto.bundle"
"""A file of DSSE envelopes, one a line (in-toto attestation 1.0, "Bundle")."""
TARGET = "dev.edgec.target"
SIGNED = "dev.edgec.offer"
"""Annotation of an entry of an index: its signature (`edgec.publish.offer`)."""
TITLE = "org.opencontainers.image.title"
LARGEST_BLOB = 1 << 40
"""Bytes of a blob at most."""

_MEDIA_TYPES = {
    MANIFEST: "application/vnd.edgec.bundle.manifest.v1+json",
    ATTESTATIONS: ATTESTED,
    SBOM: "application/vnd.cyclonedx+json",
}
_SUFFIX_TYPES = {
    ".npz": "application/vnd.edgec.arrays.npz",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".html": "text/html",
    ".py": "text/x-python",
    ".sh": "application/x-sh",
    ".txt": "text/plain",
    "": "text/plain",
}

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=LARGEST_BLOB)]
SchemaVersion = Annotated[int, Field(ge=2, le=2)]


class OciRecord(BaseModel):
    """A document; unknown keys are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, populate_by_name=True, alias_generator=to_camel)

    def document(self) -> dict[str, Any]:
        """The JSON object, without keys that are not set."""
        plain: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return plain

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self.document()).encode()


class Platform(OciRecord):
    """The platform of an entry of an index."""

    architecture: str
    os: str
    variant: str | None = None


class Typed(OciRecord):
    """What has a media type: a document, or a reference to one."""

    media_type: str
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None

    def annotation(self, key: str) -> str:
        """The value of an annotation; empty where it is not set."""
        return (self.annotations or {}).get(key, "")


class Descriptor(Typed):
    """A reference to content by its digest."""

    digest: Digest
    size: Size
    platform: Platform | None = None
    data: str | None = None


class ArtifactManifest(Typed):
    """An image manifest that is an artifact: files as layers, and no configuration."""

    schema_version: SchemaVersion = 2
    media_type: str = MANIFEST_TYPE
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None


class ImageIndex(Typed):
    """A list of manifests."""

    schema_version: SchemaVersion = 2
    media_type: str = INDEX_TYPE
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True)
class Document:
    """A manifest or index as a registry returned it."""

    content: bytes
    media_type: str
    digest: str


EMPTY = Descriptor(
    media_type="application/vnd.oci.empty.v1+json",
    digest="sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    size=2,
    data="e30=",
)
"""``{}``: the configuration of an artifact without one (image-spec 1.1, "Guidance for an Empty Descriptor")."""
EMPTY_CONTENT = b"{}"

Record = TypeVar("Record", bound=Typed)


def digest_of(content: bytes) -> str:
    """``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor_of(record: ImageIndex | ArtifactManifest) -> Descriptor:
    """A reference to a document as `OciRecord.to_bytes` writes it."""
    content = record.to_bytes()
    return Descriptor(
        media_type=record.media_type,
        digest=digest_of(content),
        size=len(content),
        artifact_type=record.artifact_type,
    )


def platform_of(device: Device) -> Platform:
    """The platform of a device, in the names of docker and other OCI tools."""
    system = "android" if "android" in device.triple else "linux"
    return Platform(os=system, **ARCHITECTURES[device.arch].oci)


def layer_of(file: BundleFile, media_type: str | None = None) -> Descriptor:
    """A bundle's file as a layer; `media_type` is that of a model's format."""
    known = media_type or _MEDIA_TYPES.get(file.name) or _SUFFIX_TYPES.get(PurePosixPath(file.name).suffix)
    return Descriptor(
        media_type=known or "application/octet-stream",
        digest=f"sha256:{file.sha256}",
        size=file.size,
        annotations={TITLE: file.name},
    )


def file_of(layer: Descriptor, where: str) -> BundleFile:
    """A layer as a bundle's file. Its name is not checked here, see `edgec.publish.untrusted`.

    Raises:
        PublishError: it has no name.
    """
    name = layer.annotation(TITLE)
    if not name:
        raise PublishError(f"a layer has no name (annotation {TITLE})", where=where)
    return BundleFile(name=name, sha256=layer.digest.removeprefix("sha256:"), size=layer.size)


def artifact_of(target: str, files: tuple[BundleFile, ...], models: Mapping[str, str]) -> ArtifactManifest:
    """The artifact of a bundle: the same for the same files, on every machine that has the bundle's backends.

    Args:
        target: name of the bundle's target.
        files: of the bundle.
        models: media type of each file that is a model.
    """
    layers = tuple(layer_of(file, models.get(file.name)) for file in files)
    return ArtifactManifest(artifact_type=BUNDLE, config=EMPTY, layers=layers, annotations={TARGET: target})


def parse_document(kind: type[Record], document: Document, where: str) -> Record:
    """Parse a document of the expected type.

    Args:
        kind: the expected type.
        document: its digest has been checked.
        where: for messages.

    Raises:
        PublishError: it has another type, by the registry's or by its own statement, or is damaged.
    """
    expected = INDEX_TYPE if kind is ImageIndex else MANIFEST_TYPE
    try:
        plain = json.loads(document.content)
    except (ValueError, RecursionError):
        raise PublishError("the registry returned invalid JSON", where=where) from None
    if not isinstance(plain, dict):
        raise PublishError("the registry returned neither an OCI index nor a manifest", where=where)
    foreign = {"config", "layers"} if kind is ImageIndex else {"manifests"}
    if {document.media_type, plain.get("mediaType", expected)} != {expected} or not foreign.isdisjoint(plain):
        what = f"this is {describe_document(plain, document.media_type)}"
        raise PublishError(what, where=where, hint="name what edgec published")
    try:
        return kind.model_validate_json(document.content)
    except ValidationError as exc:
        raise PublishError(f"the document in the registry is damaged: {first_problem(exc)}", where=where) from exc


def describe_document(document: dict[str, Any], media_type: str) -> str:
    """The kind of a document that edgec did not write, for messages."""
    config = document.get("config")
    kind = document.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else None)
    if media_type in DOCKER_TYPES:
        return f"{DOCKER_TYPES[media_type]}, not a bundle"
    if media_type not in {INDEX_TYPE, MANIFEST_TYPE}:
        return f"neither an OCI index nor a manifest ({media_type[:100]!r})"
    if kind == "application/vnd.oci.image.config.v1+json":
        return "a container image, not a bundle"
    plain = "an OCI index" if media_type == INDEX_TYPE else "an OCI manifest"
    return f"{plain} ({str(kind)[:100]!r}), not a bundle" if kind else f"{plain} that is not a bundle"
