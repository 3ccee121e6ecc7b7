"""Building a target a second time, from scratch and in another process, and holding the bundles against each other."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.build.build import build_target
from edgec.bundle.check import read_bundle
from edgec.bundle.differences import FileDifference, compare_bundles
from edgec.bundle.manifest import MANIFEST
from edgec.errors import EdgecError, ReproducibilityError, StorageError, WorkerError
from edgec.lock.follow import LockUse
from edgec.lock.file import LOCK
from edgec.project.spec import Project
from edgec.workers.worker import WITH_TORCH, Progress, call

_ZONES = ("EDGEC-13:30", "EDGEC+11")
"""Time zones in POSIX's form (TZ of IEEE Std 1003.1), which need no database."""


@dataclass(frozen=True)
class Reproduced:
    """What was found equal."""

    files: int
    """That are byte for byte the same, the manifest among them."""
    manifest: str
    """SHA-256 (hex) of the manifest."""


class SecondBuild:
    """An `edgec.build.build.Inspector` that builds the same again and compares.

    The second build runs one process at a time, with an output folder and a cache of its own, in another time zone,
    with another umask and PYTHONHASHSEED. It begins with edgec.lock as it is when this is made: the first build may
    only write it afterwards.

    Args:
        name: of the target.
        project: what to build, with paths relative to `root`.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
        all_or_nothing: fail when an artifact cannot be made or misses a gate, as the first build.
        locked: hold it to the lock, as the first build.
        progress: told each step.
    """

    def __init__(
        self,
        name: str,
        project: Project,
        root: Path,
        *,
        threads: int,
        all_or_nothing: bool,
        locked: bool,
        progress: Progress,
    ) -> None:
        self._name, self._project, self._root = name, project, root.absolute()
        self._threads, self._all_or_nothing, self._locked = threads, all_or_nothing, locked
        self._progress = progress
        file = root / LOCK
        self._lock = file.read_bytes() if file.exists() else None
        self.found: Reproduced | None = None
        """What came of it."""

    def __call__(self, bundle: Path, scratch: Path, log: Path) -> None:
        """Build again, and compare with the first build's `bundle`.

        Raises:
            ReproducibilityError: they differ, or the second build fails where the first did not.
            StorageError: the disk is full.
            WorkerError: a process of the second build crashed.
        """
        folder = scratch / "again"
        folder.mkdir()
        try:
            self._build(folder, log)
            files, different = compare_bundles(bundle, folder / self._name, read_bundle(bundle))
            if different:
                raise _not_equal(self._name, different)
            digest = hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
            self.found = Reproduced(files, digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _build(self, folder: Path, log: Path) -> None:
        lock = folder / LOCK
        if self._lock is not None:
            lock.write_bytes(self._lock)
        temporary = folder / "tmp"
        temporary.mkdir()
        project = self._project.model_copy(
            update={"build": self._project.build.model_copy(update={"out": str(folder)})}
        )
        payload: dict[str, Any] = {
            "name": self._name,
            "project": project.model_dump_json(),
            "root": str(self._root),
            "lock": str(lock),
            "locked": self._locked,
            "threads": self._threads,
            "all_or_nothing": self._all_or_nothing,
            "umask": 0o077 if _umask() != 0o077 else 0o022,
        }
        environment = os.environ | {
            "TMPDIR": str(temporary),
            "TZ": next(zone for zone in _ZONES if zone != os.environ.get("TZ")),
            "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
        }
        self._progress("build it again, to compare")
        try:
            call(
                "edgec.build.reproduce:build_again", payload, log=log, what="second build", environment=environment,
                imports=WITH_TORCH, on_progress=lambda step: self._progress(f"second build: {step}"),
            )  # fmt: skip
        except (StorageError, WorkerError):
            raise
        except EdgecError as error:
            told = f"{error.where}: {error.what}" if error.where else error.what
            raise ReproducibilityError(
                f"a second build of the same inputs failed, so no bundle was written: {told}",
                where=self._name,
                hint=error.hint,
                log=error.log,
            ) from error


def build_again(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """The second build, as a task of a worker process."""
    os.umask(payload["umask"])
    build_target(
        payload["name"],
        Project.model_validate_json(payload["project"]),
        Path(payload["root"]),
        threads=payload["threads"],
        jobs=1,
        all_or_nothing=payload["all_or_nothing"],
        lock_use=LockUse(payload["locked"], Path(payload["lock"])),
        progress=progress,
    )
    return {}


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
