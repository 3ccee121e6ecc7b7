"""The formats of a bundle's models, as their backends declare them."""

from __future__ import annotations

from edgec.backends.registry import get_backend
from edgec.bundle.manifest import Manifest
from edgec.errors import BackendUnavailableError, TargetError


def media_types(manifest: Manifest) -> dict[str, str]:
    """Media type of each model file of a bundle whose backend is installed here, by its path in the bundle."""
    artifacts = [item.artifact for item in manifest.artifacts]
    if manifest.float_twin is not None:
        artifacts.append(manifest.float_twin.artifact)
    types: dict[str, str] = {}
    for artifact in artifacts:
        try:
            types[artifact.file] = get_backend(artifact.backend).format.media_type
        except (TargetError, BackendUnavailableError):  # it was built with a backend that this machine does not have
            continue
    return types
