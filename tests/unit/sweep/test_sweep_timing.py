"""What cannot be timed is reported, and does not end a sweep."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact
from edgec.errors import StorageError
from edgec.quant.recipe import Recipe
from edgec.storage.cache import Cache
from edgec.sweep.store import SAMPLE, CellArtifact
from edgec.sweep.timing import Placed, Timed, Timer, _lock_file
from edgec.target.spec import BenchSpec


def test_a_sample_that_is_not_there_or_damaged(tmp_path: Path, plain_artifact: Artifact) -> None:
    made = CellArtifact(
        artifact=plain_artifact, sha256="0" * 64, size=1, recipe=Recipe(), rungs=(), passes=(), accuracy=(), coverage=()
    )
    timer = Timer(Cache(tmp_path / "cache"), tmp_path / "log")

    def timed() -> Timed:
        return timer.time(Placed(made, tmp_path), None, ("onnxruntime", "1"), BenchSpec(), lambda step: None)

    missing = timed()
    assert missing.latency is None
    assert missing.reason.startswith("not timed: FileNotFoundError")
    (tmp_path / SAMPLE).mkdir()
    (tmp_path / SAMPLE / "spool.json").write_text("{")
    assert timed().reason.startswith("not timed: ValidationError")


def test_a_folder_that_is_not_this_users_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    own = tmp_path / f"edgec-{os.getuid()}"
    assert _lock_file().parent == own
    assert own.stat().st_mode & 0o777 == 0o700
    own.rmdir()
    (tmp_path / "theirs").mkdir()
    own.symlink_to(tmp_path / "theirs")
    assert _lock_file().parent == tmp_path / "home" / ".cache" / "edgec"
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="of this user's own"):
        _lock_file()
