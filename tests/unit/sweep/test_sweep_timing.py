"""What cannot be timed is reported, and does not end a sweep."""

from __future__ import annotations

from pathlib import Path

from edgec.backends.interface import Artifact
from edgec.quant.recipe import Recipe
from edgec.storage.cache import Cache
from edgec.sweep.store import SAMPLE, CellArtifact
from edgec.sweep.timing import Placed, Timed, Timer
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
