"""How a bundle was built: SLSA provenance v1 (slsa.dev/spec/v1.0/provenance).

All content is from the manifest, so that it does not depend on when and where the bundle is signed; it has no time and
no invocation.
"""

from __future__ import annotations

from typing import Any

from edgec.bundle.manifest import Manifest
from edgec.bundle.provenance.dependencies import SAMPLES_DIGEST, data_sets, packages, source_files

PROVENANCE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:edgec:build:v1"
"""The meaning of the parameters, described in docs/signing.md."""
LOCAL_BUILDER = "urn:edgec:builder:local"
"""Builder of a bundle whose signer did not name one: the holder of the key."""


def provenance(manifest: Manifest, builder: str) -> dict[str, Any]:
    """The provenance predicate of a bundle.

    Args:
        manifest: of the bundle.
        builder: URI of the builder.
    """
    plain = manifest.plain()
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"target": plain["target"], "project": plain["project"]["settings"]},
            "internalParameters": {
                "plan": plain["plan"],
                "recipes": {item["artifact"]["file"]: item["recipe"] for item in plain["artifacts"]},
                "isa": plain["isa"],
                "threads": plain["project"]["threads"],
            },
            "resolvedDependencies": _dependencies(manifest),
        },
        "runDetails": {"builder": {"id": builder, "version": {"edgec": manifest.edgec}}},
    }


def _dependencies(manifest: Manifest) -> list[dict[str, Any]]:
    """Resource descriptors (in-toto attestation spec v1): each has a digest, or the package URL of a version."""
    files = [
        {"name": item.name, "digest": {"sha256": item.sha256}, "annotations": {"role": item.role}}
        for item in source_files(manifest)
    ]
    data = [
        {
            "name": item.info.origin,
            "digest": {SAMPLES_DIGEST: item.info.content_digest},
            "annotations": {"role": item.role, "samples": item.info.samples},
        }
        for item in data_sets(manifest)
    ]
    target = {
        "name": manifest.target.name,
        "digest": {"sha256": manifest.target_digest},
        "annotations": {"role": "target", "of": "canonical JSON of externalParameters.target"},
    }
    software = [
        {"name": item.name, "uri": item.purl, "annotations": {"role": "toolchain"}} for item in packages(manifest)
    ]
    return [*files, *data, target, *software]
