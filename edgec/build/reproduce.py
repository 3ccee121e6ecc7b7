"""Building a target a second time, from scratch and in another process, and comparing the two bundles."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgec.build.options import BuildOptions
from edgec.bundle.check import read_bundle
from edgec.bundle.differences import FileDifference, compare_bundles
from edgec.bundle.manifest import MANIFEST
from edgec.errors import EdgecError, ReproducibilityError, StorageError, WorkerError
from edgec.frozen import Frozen
from edgec.lock.file import LOCK
from edgec.plan.context import BuildContext
from edgec.project.spec import Project
from edgec.storage.cache import CACHE_VARIABLE
from edgec.workers.records import Done
from edgec.workers.worker import WITH_TORCH, call

_ZONES = ("EDGEC-13:30", "EDGEC+11")
"""Time zones in POSIX's form (TZ of IEEE Std 1003.1), which need no database."""


class SecondBuildRequest(Frozen):
    """A second build: of `edgec.build.second_build.build_again`."""

    target: str
    project: Project
    root: Path
    lock: Path
    """Read instead of the project's."""
    locked: bool
    threads: int
    all_or_nothing: bool
    umask: int


@dataclass(frozen=True)
class Reproduced:
    """What was found equal."""

    files: int
    """That are byte for byte the same, the manifest among them."""
    manifest: str
    """SHA-256 (hex) of the manifest."""


def check_reproducible(bundle: Path, context: BuildContext, options: BuildOptions) -> Reproduced:
    """Build the same again, and compare with `bundle`, the staged bundle of the first build.

    The second build runs one process at a time, with an output folder and a cache of its own, in another time zone,
    with another umask and PYTHONHASHSEED. It begins with the project's edgec.lock, which the first build has not
    written yet.

    Args:
        bundle: complete.
        context: of the first build.
        options: of the first build.

    Raises:
        ReproducibilityError: the bundles differ, or the second build fails where the first did not.
        StorageError: the disk is full.
        WorkerError: a process of the second build crashed.
    """
    name = context.plan.target.name
    folder = context.scratch / "again"
    folder.mkdir()
    try:
        _build_again(folder, context, options)
        files, different = compare_bundles(bundle, folder / name, read_bundle(bundle))
        if different:
            raise _not_equal(name, different)
        return Reproduced(files, hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _build_again(folder: Path, context: BuildContext, options: BuildOptions) -> None:
    project, root = context.plan.project, context.root.absolute()
    lock = folder / LOCK
    if (root / LOCK).exists():
        shutil.copyfile(root / LOCK, lock)
    temporary = folder / "tmp"
    temporary.mkdir()
    project = project.model_copy(update={"build": project.build.model_copy(update={"out": str(folder)})})
    request = SecondBuildRequest(
        target=context.plan.target.name,
        project=project,
        root=root,
        lock=lock,
        locked=options.lock.locked,
        threads=context.threads,
        all_or_nothing=options.all_or_nothing,
        umask=0o077 if _umask() != 0o077 else 0o022,
    )
    environment = os.environ | {
        "TMPDIR": str(temporary),
        CACHE_VARIABLE: str(folder / "cache"),
        "TZ": next(zone for zone in _ZONES if zone != os.environ.get("TZ")),
        "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
    }
    context.progress("build it again, to compare")
    try:
        call(
            "edgec.build.second_build:build_again", request, Done, log=context.log, what="second build",
            environment=environment, imports=WITH_TORCH,
            on_progress=lambda step: context.progress(f"second build: {step}"),
        )  # fmt: skip
    except (StorageError, WorkerError):
        raise
    except EdgecError as error:
        what = f"{error.where}: {error.what}" if error.where else error.what
        raise ReproducibilityError(
            f"a second build of the same inputs failed, so no bundle was written: {what}",
            where=context.plan.target.name,
            hint=error.hint,
            log=error.log,
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _not_equal(name: str, different: tuple[FileDifference, ...]) -> ReproducibilityError:
    lines = "".join(f"\n  {item.file}: {item.what}" for item in different)
    return ReproducibilityError(
        f"a second build of the same inputs gave other bytes, so no bundle was written; what differs:{lines}",
        where=name,
        hint="look for what differs between two processes: unseeded random numbers, times, process ids, the order of "
        "sets, files that are read and not named in the project",
    )
