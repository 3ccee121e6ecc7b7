"""What bundles tell of a project: the same wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edgec.project.record import code_digests, project_file_digest, recorded_path, settings
from edgec.project.spec import BuildSpec, EvaluationSpec, ModelSpec, Project, TrainSpec


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("model.onnx", "model.onnx"),
        ("./nets/../nets/model.onnx", "nets/model.onnx"),
        ("nets/model.py:Net", "nets/model.py:Net"),
        ("../elsewhere/model.py:Net", "model.py:Net"),
        ("../../home/alice/model.onnx", "model.onnx"),
        ("/data/photos/train", "train"),
        ("a/../../b/c.npz", "c.npz"),
        ("auto", "auto"),
        ("..model.onnx", "..model.onnx"),
    ],
)
def test_paths(path: str, told: str) -> None:
    assert recorded_path(path) == told


def test_settings_say_nothing_of_where_and_which() -> None:
    project = Project(
        model=ModelSpec(path="../net.py:Net", weights="/data/net.pt"),
        evaluation=EvaluationSpec(data="/data/e.npz", metric="../metric.py:score"),
    )
    told = settings(project)
    assert told["model"]["path"] == "net.py:Net"
    assert told["model"]["weights"] == "net.pt"
    assert (told["evaluation"]["data"], told["evaluation"]["metric"]) == ("e.npz", "metric.py:score")
    assert (told["calibration"], told["train"]) == (None, None)
    moved = project.model_copy(update={"build": BuildSpec(out="/tmp/x", targets=("rpi4-int8",))})
    assert settings(moved) == told
    assert settings(project.model_copy(update={"build": BuildSpec(seed=1)})) != told


def test_digests(tmp_path: Path) -> None:
    for name in ("metric.py", "loss.py"):
        (tmp_path / name).write_text(name)
    project = Project(
        evaluation=EvaluationSpec(data="e.npz", metric="metric.py:score"),
        train=TrainSpec(data="t.npz", loss="loss.py:loss", function="gone.py:fit"),
    )
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("metric.py", "loss.py")}
    assert code_digests(project, tmp_path) == digests
    (tmp_path / "lib").mkdir()
    for name, text in {"metric.py": "import lib.a", "lib/a.py": "import b", "b.py": "", "unused.py": ""}.items():
        (tmp_path / name).write_text(text)
    assert list(code_digests(project, tmp_path)) == ["metric.py", "b.py", "lib/a.py", "loss.py"]
    outside = tmp_path / "inner"
    outside.mkdir()
    elsewhere = Project(evaluation=EvaluationSpec(data="e.npz", metric="../metric.py:score"))
    assert list(code_digests(elsewhere, outside)) == ["metric.py", "b.py", "lib/a.py"]
    assert project_file_digest(tmp_path) == ""
    (tmp_path / "edgec.toml").write_bytes(b"# x")
    assert project_file_digest(tmp_path) == hashlib.sha256(b"# x").hexdigest()
