"""Finished cells, on disk by their keys; each is complete or absent.

``<out>/.work/sweep/cells/<key>/`` holds ``cell.json``, the artifacts, and ``sample`` (a spool with the evaluation
sample that times are taken with). The folder may be removed at any time.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import ValidationError

from edgec.backends.interface import Artifact
from edgec.bundle.manifest import Accuracy, PassFacts
from edgec.bundle.write import digest_file, digest_folder
from edgec.dataset.file_accesses import digest_names
from edgec.frozen import Frozen, digest_json
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.storage.files import storage_errors
from edgec.storage.guard import guarded
from edgec.storage.staging import replace_folder
from edgec.verify.records import RungRecord

RECORD, SAMPLE = "cell.json", "sample"


class CellArtifact(Frozen):
    """One artifact of a cell and its results."""

    artifact: Artifact
    sha256: str
    size: int
    recipe: Recipe
    rungs: tuple[RungRecord, ...]
    passes: tuple[PassFacts, ...]
    accuracy: tuple[Accuracy, ...]
    """One for each runtime."""
    coverage: tuple[Coverage, ...]
    """Where it is not as the target asks."""


class FailedPart(Frozen):
    """An artifact of a cell that could not be made."""

    file: str
    reason: str


class CellRecord(Frozen):
    """``cell.json``: the same inputs give the same bytes."""

    key: str
    metric: str
    samples: int
    artifacts: tuple[CellArtifact, ...]
    failures: tuple[FailedPart, ...]
    sample: str
    """`digest_sample` of the evaluation sample that times are taken with."""
    reads: dict[str, str]
    """SHA-256 of files that code of the project has read, by path; relative ones are below the project's folder."""
    listed: dict[str, str]
    """`digest_names` of folders of the project that code has listed, by path."""


def digest_sample(cell: Path) -> str:
    """SHA-256 (hex) of the evaluation sample in the folder of a cell.

    Raises:
        OSError: it cannot be read.
    """
    return digest_json({name: file.sha256 for name, file in digest_folder(cell / SAMPLE).items()})


class CellStore:
    """The cells of one folder of bundles.

    Args:
        out: that folder.
        root: the project's.
    """

    def __init__(self, out: Path, root: Path) -> None:
        self._root = root
        self._out = out
        self._base = out / ".work" / "sweep"

    def folder(self, key: str) -> Path:
        """Folder of a cell, which may not exist yet."""
        return self._base / "cells" / key

    def get(self, key: str) -> CellRecord | None:
        """The record of a finished cell; None when it is absent or damaged, or its code would read other files now."""
        folder = self.folder(key)
        try:
            record = CellRecord.model_validate_json((folder / RECORD).read_bytes())
            if record.key != key or digest_sample(folder) != record.sample:
                return None
            if any(digest_file(folder / item.artifact.file).sha256 != item.sha256 for item in record.artifacts):
                return None
            if any(digest_file(self._root / name).sha256 != wanted for name, wanted in record.reads.items()):
                return None
            if any(digest_names(self._root / name, self._out) != wanted for name, wanted in record.listed.items()):
                return None
        except (OSError, ValidationError):
            return None
        return record

    def put(self, key: str, made: Path) -> None:
        """Keep folder `made`, which is on the same file system, in place of an earlier cell.

        Raises:
            StorageError: the file system refuses.
        """
        folder = self.folder(key)
        with storage_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        replace_folder(made, folder)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """The lock to hold while a cell is made; a killed process releases it."""
        return guarded(self._base / "locks" / f"{key}.lock")

    def lease(self, name: str) -> Path:
        """A file that exists as long as the sweep which requested cells of a cluster."""
        folder = self._base / "leases"
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def relative(self, path: Path) -> str:
        """`path` in the form of `CellRecord.reads`."""
        root, real = self._root.resolve(), path.resolve()
        return os.path.relpath(real, root) if real.is_relative_to(root) else str(path)
