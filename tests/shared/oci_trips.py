"""Bundles to a registry and back, as `edgec publish` and `edgec pull` bring them there, without much policy."""

from __future__ import annotations

from pathlib import Path

from edgec.bundle.files import bundle_files
from edgec.publish.collect import collect_bundles
from edgec.publish.location import OciLocation
from edgec.publish.oci.store import OciStore
from edgec.publish.pull import PulledBundle, pull
from edgec.publish.store import PublishResult
from edgec.publish.transfer import RetryPolicy

HASTY = RetryPolicy(timeout=5.0, retries=3, wait=0.01)
HURRIED = RetryPolicy(timeout=0.3, retries=1, wait=0.01)
MODEL = bytes(range(251)) * 4000
"""About 1 MB."""


def at(host: str, name: str = "digits") -> OciLocation:
    """A repository, and its tag ``latest``."""
    return OciLocation(host, name)


def send(
    location: OciLocation, *folders: Path, add: bool = False, policy: RetryPolicy = HASTY, said: list[str] | None = None
) -> PublishResult:
    """Publish bundles; `said` gets what progress was told."""
    steps = said if said is not None else []
    return OciStore(location, policy).publish(collect_bundles(folders, steps.append), add=add, progress=steps.append)


def fetch(location: OciLocation, out: Path, policy: RetryPolicy = HASTY) -> list[PulledBundle]:
    """Pull all targets."""
    return list(pull(location, ["*"], out, policy=policy))


def in_place(out: Path) -> list[str]:
    """What a pull has put under its final name."""
    return sorted(path.name for path in out.glob("*") if path.name != ".work")


def digest_of_model(bundle: Path) -> str:
    """``sha256:...`` of a bundle's model.onnx."""
    return next(f"sha256:{file.sha256}" for file in bundle_files(bundle) if file.name == "model.onnx")
