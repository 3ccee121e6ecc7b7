"""Checks and reads one of the two bundles of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.bundle.check import check_digests
from edgec.bundle.manifest import MEASUREMENTS, Accuracy, ArtifactRecord, Manifest, Measurements
from edgec.frozen import as_text
from edgec.verify.records import Measurement

Place = tuple[str, str]
"""Artifact file and runtime."""


@dataclass(frozen=True)
class Side:
    """A bundle whose files match their digests.

    Attributes:
        manifest: of the bundle.
        times: measurements; ``measurements.json`` has no digest, so accuracy is never read from it.
        untimed: why there is nothing in `times`; empty when there is.
    """

    manifest: Manifest
    times: Mapping[Place, Measurement]
    untimed: str

    @property
    def places(self) -> dict[Place, Accuracy]:
        """The accuracy of each artifact in each runtime, in the manifest's order."""
        return {(item.artifact, item.runtime): item for item in self.manifest.accuracy}

    @property
    def artifacts(self) -> dict[str, ArtifactRecord]:
        """Artifacts by file name."""
        return {item.artifact.file: item for item in self.manifest.artifacts}


def read_side(path: Path) -> Side:
    """Check and read the bundle in folder `path`.

    Raises:
        BundleError: the folder is not a bundle, or a file does not match its digest. Missing or damaged times do not
            raise: `Side.untimed` has the reason.
    """
    manifest = check_digests(path)
    try:
        text = (path / MEASUREMENTS).read_text(encoding="utf-8")
        read = Measurements.model_validate_json(json.dumps(as_text(json.loads(text))))
    except FileNotFoundError:
        return Side(manifest, {}, f"it has no {MEASUREMENTS}")
    except (OSError, ValueError, RecursionError):
        return Side(manifest, {}, f"its {MEASUREMENTS} cannot be read")
    return Side(manifest, {(item.artifact, item.runtime): item for item in read.measurements}, "")
