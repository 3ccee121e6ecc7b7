"""Bundles that need no build: nothing that they were made from has changed. Imports no framework."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from edgec.build.api import Bundle
from edgec.build.depfile import dependencies_of
from edgec.build.options import BuildOptions
from edgec.bundle.check import check_digests
from edgec.bundle.manifest import MANIFEST, MEASUREMENTS, Measurements
from edgec.bundle.write import source_date_epoch
from edgec.errors import BundleError, StorageError
from edgec.frozen import Frozen, digest_json
from edgec.lock.file import LOCK
from edgec.plan.identity import environment
from edgec.plan.plan import Plan
from edgec.storage.cache import user_cache
from edgec.storage.files import sha256_of

_CLOCK_STEP = 0.02
"""Seconds by which a file's time may be behind the clock."""


class _Built(Frozen):
    """What a complete bundle was made from."""

    identity: str
    """Digest of plan, options and environment."""
    files: dict[str, str]
    """SHA-256 (hex) of every file; empty for folders."""
    imported: tuple[str, ...]
    """Files that the model imports, relative to the project's folder."""
    read: tuple[str, ...]
    """Files that the metric reads, likewise."""
    manifest: str
    """SHA-256 (hex) of the bundle's manifest."""


def unchanged(plan: Plan, root: Path, options: BuildOptions) -> Bundle | None:
    """The bundle of a plan, if a build would make the same again; None: it has to be built.

    Args:
        plan: what to build.
        root: the project's folder.
        options: how.
    """
    destination = _destination(plan, root)
    value = user_cache().get(_key(destination))
    if value is None or options.check_reproducible or options.retime:
        return None
    try:
        built = _Built.model_validate_json(json.dumps(value))
        needed = dependencies_of(plan, root, built.imported)
        if built.identity != _identity(plan, options) or built.files != _digests(_files(root, needed, built.read)):
            return None
        if built.manifest != sha256_of(destination / MANIFEST):
            return None
        manifest = check_digests(destination)
        measured = Measurements.model_validate_json((destination / MEASUREMENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError, BundleError):
        return None
    return Bundle(destination, manifest, measured.measurements, measured.gates, dependencies=needed, unchanged=True)


def remember(
    plan: Plan, root: Path, options: BuildOptions, began: float, imported: Iterable[str], read: Iterable[str]
) -> None:
    """Keep what a complete bundle was made from, for `unchanged`; not if a file may have changed meanwhile.

    Args:
        plan: of the build that has ended.
        root: the project's folder.
        options: of the build.
        began: when it did, in seconds since 1970.
        imported: files that the model imports, relative to the project's folder.
        read: files that the metric reads, likewise.
    """
    destination, imported, read = _destination(plan, root), tuple(imported), tuple(read)
    files = _files(root, dependencies_of(plan, root, imported), read)
    try:
        if any(file.stat().st_ctime > began - _CLOCK_STEP for file in files if file.name != LOCK):
            return
        built = _Built(
            identity=_identity(plan, options),
            files=_digests(files),
            imported=imported,
            read=read,
            manifest=sha256_of(destination / MANIFEST),
        )
        user_cache().put(_key(destination), built.plain(), what="bundle")
    except (OSError, StorageError):
        return  # it will be built again


def _destination(plan: Plan, root: Path) -> Path:
    return (root / plan.project.build.out).absolute() / plan.target.name


def _key(destination: Path) -> str:
    return digest_json({"what": "bundle", "destination": str(destination)})


def _identity(plan: Plan, options: BuildOptions) -> str:
    return digest_json(
        {
            "target": plan.target.digest(),
            "project": plan.project.plain(),
            "options": [options.threads, options.all_or_nothing, options.lock.locked, str(options.lock.file)],
            "environment": environment([item.backend for item in plan.emits]).plain(),
            "epoch": source_date_epoch(),
        }
    )


def _files(root: Path, needed: Iterable[Path], read: Iterable[str]) -> tuple[Path, ...]:
    return (*needed, *(root / name for name in read), root / LOCK)


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {
        str(file.absolute()): "" if file.is_dir() else sha256_of(file) if file.exists() else "missing" for file in files
    }
