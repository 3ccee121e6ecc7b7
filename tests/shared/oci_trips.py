"""Bundles to a registry and back, as `edgec publish` and `edgec pull` bring them there, without much patience."""

from __future__ import annotations

from pathlib import Path

from edgec.bundle.files import bundle_files
from edgec.publish.oci.store import OciStore
from edgec.publish.outgoing import outgoing
from edgec.publish.place import OciPlace
from edgec.publish.pull import Pulled, pull
from edgec.publish.store import Published
from edgec.publish.transfer import Patience

HASTY = Patience(timeout=5.0, retries=3, wait=0.01)
HURRIED = Patience(timeout=0.3, retries=1, wait=0.01)
MODEL = bytes(range(251)) * 4000
"""About 1 MB."""


def at(host: str, name: str = "digits") -> OciPlace:
    """A repository, and its tag ``latest``."""
    return OciPlace(host, name)


def send(
    place: OciPlace, *folders: Path, add: bool = False, patience: Patience = HASTY, said: list[str] | None = None
) -> Published:
    """Publish bundles; `said` gets what progress was told."""
    steps = said if said is not None else []
    return OciStore(place, patience).publish(outgoing(folders, steps.append), add=add, progress=steps.append)


def fetch(place: OciPlace, out: Path, patience: Patience = HASTY) -> list[Pulled]:
    """Pull all targets."""
    return list(pull(place, ["*"], out, patience=patience))


def in_place(out: Path) -> list[str]:
    """What a pull has put under its final name."""
    return sorted(path.name for path in out.glob("*") if path.name != ".work")


def digest_of_model(bundle: Path) -> str:
    """``sha256:...`` of a bundle's model.onnx."""
    return next(f"sha256:{file.sha256}" for file in bundle_files(bundle) if file.name == "model.onnx")
