"""What the user's metric reads when it first runs: code by computed names and data of the project, and nothing else."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgec.build.metric import files_read
from edgec.errors import ProjectError
from edgec.verify.metrics import Metric

METRIC = """import importlib
from pathlib import Path

import helper

HERE = Path(__file__).parent
(HERE / "scratch" / "float.npy").read_bytes()


def score(outputs, labels):
    weights = (HERE / "weights.txt").read_text()
    chosen = importlib.import_module("chosen_" + helper.NAME)
    Path("elsewhere.txt").read_text()
    return [float(weights) * chosen.SIGN for _ in outputs["y"]]
"""
FILES = {
    "project/metric.py": METRIC,
    "project/helper.py": "NAME = 'late'\n",
    "project/chosen_late.py": "SIGN = 1\n",
    "project/weights.txt": "0.5",
    "project/scratch/float.npy": "",
    "elsewhere.txt": "",
}
OUTPUTS = {"y": np.zeros((3, 1, 2), np.float32)}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return tmp_path / "project"


def reads(root: Path, name: str = "metric.py:score") -> dict[str, str]:
    known = ("metric.py", "helper.py")
    return files_read(Metric(name, None, root), OUTPUTS, root, root / "scratch", known=known)


def test_code_and_data_of_the_project_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("chosen_late.py", "weights.txt")
    expected = {name: hashlib.sha256(FILES[f"project/{name}"].encode()).hexdigest() for name in names}
    assert reads(root) == expected
    assert (root / "__pycache__").exists()  # so the second time no source is opened
    assert reads(root) == expected
    other = root.parent / "other"
    other.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(root.parent / "temporary"))
    told = files_read(Metric("../project/metric.py:score", None, other), OUTPUTS, other, root / "scratch", known=())
    assert set(told) == {"metric.py", "helper.py", "chosen_late.py", "weights.txt"}


def test_a_metric_that_fails_is_told_and_one_of_edgec_reads_nothing(root: Path) -> None:
    assert files_read(Metric("agreement", None, root, unit="class"), OUTPUTS, root, root, known=()) == {}
    (root / "weights.txt").write_text("half")
    with pytest.raises(ProjectError, match="ValueError"):
        reads(root)
