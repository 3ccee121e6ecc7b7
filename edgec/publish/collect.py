"""The bundles in the folders that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.bundle.check import read_bundle, refuse_incomplete
from edgec.bundle.files import bundle_files
from edgec.bundle.manifest import MANIFEST
from edgec.errors import BundleError
from edgec.publish.store import LocalBundle, RemoteBundle
from edgec.publish.untrusted import check_remote_bundle
from edgec.workers.worker import Progress


def collect_bundles(
    folders: Sequence[Path], progress: Progress, *, allow_incomplete: bool = False
) -> tuple[LocalBundle, ...]:
    """Read the bundles that `folders` are or contain, and check their digests.

    Args:
        folders: bundles, or folders of bundles.
        progress: receives each step.
        allow_incomplete: accept bundles that lack artifacts of their target.

    Raises:
        BundleError: there is none, one was changed, or two have the same target.
        IncompleteError: one lacks artifacts.
    """
    bundles: dict[str, LocalBundle] = {}
    for path in (path for folder in folders for path in _bundles(folder)):
        progress(f"{path.name}: check digests")
        manifest = read_bundle(path)
        if not allow_incomplete:
            refuse_incomplete(path, manifest, "it is not published")
        target = manifest.target.name
        if other := bundles.get(target):
            if other.path.resolve() == path.resolve():
                continue
            raise BundleError(
                f"two bundles have the target {target}: this and {other.path}", where=str(path), hint="name one"
            )
        bundles[target] = LocalBundle(path, manifest, bundle_files(path))
        check_remote_bundle(RemoteBundle(target=target, files=bundles[target].files), str(path))
    return tuple(bundles[target] for target in sorted(bundles))


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return [folder]  # read_bundle reports what is wrong
    inside = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
    if not inside:
        hint = "name a folder that edgec build wrote, e.g. dist/rpi4-int8, or dist for all that are in it"
        raise BundleError("there is no bundle in this folder", where=str(folder), hint=hint)
    return inside
