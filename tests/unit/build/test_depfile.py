"""Real Make reads the dependency file: names with blanks, and a dependency that went away."""

import os
import subprocess
from pathlib import Path

import pytest

from edgec.build.depfile import dependencies, write_depfile
from edgec.project.load import load_project


def make(folder: Path) -> str:
    run = subprocess.run(["make", "-s", "out"], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout


def test_make_rebuilds_exactly_when_a_dependency_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    needed = [tmp_path / "a b.npz", tmp_path / "c$d#.pt", tmp_path / "lr=0.1" / "m%[1]*.pt"]
    for path in needed:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    write_depfile(tmp_path / "out.d", [(tmp_path / "out", needed)])
    (tmp_path / "Makefile").write_text("include out.d\nout:\n\t@echo built; touch out\n")
    assert make(tmp_path) == "built\n"
    assert make(tmp_path) == ""
    for path in needed:
        time = (tmp_path / "out").stat().st_mtime + 5
        os.utime(path, (time, time))
        assert make(tmp_path) == "built\n"
        os.utime(tmp_path / "out", (time + 5, time + 5))
        assert make(tmp_path) == ""
    needed[0].unlink()
    assert make(tmp_path) == "built\n"


def test_the_rule_holds_whatever_make_calls_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").touch()
    write_depfile(tmp_path / "out.d", [(tmp_path / "out", [tmp_path / "model.pt"])])
    for name in ("out", str(tmp_path / "out")):
        (tmp_path / "Makefile").write_text(f"include out.d\n{name}:\n\t@echo built; touch out\n")
        (tmp_path / "out").touch()
        later = (tmp_path / "out").stat().st_mtime + 5
        os.utime(tmp_path / "model.pt", (later, later))
        run = subprocess.run(["make", "-s", name], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout == "built\n"


def test_dependencies_are_everything_a_bundle_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.png").touch()
    (tmp_path / "y.npy").touch()
    (tmp_path / "edgec.toml").write_text(
        '[model]\npath = "model.py:load"\nweights = "w.pt"\n[calibration]\ndata = "photos"\nmore = ["more.npz"]\n'
        '[evaluation]\ndata = "data.py:evaluation"\nmetric = "metric.py:f1"\nlabels = "y.npy"\n'
    )
    found = dependencies(
        load_project(tmp_path), tmp_path, [tmp_path / "targets" / "t.toml"], calibrated=True, trained=False
    )
    names = {str(path) for path in found}
    assert names == {
        "edgec.toml", "model.py", "w.pt", "photos", "photos/cat", "photos/cat/1.png", "data.py", "metric.py", "y.npy",
        "targets/t.toml", "more.npz",
    }  # fmt: skip
    without = dependencies(load_project(tmp_path), tmp_path, [], calibrated=False, trained=False)
    assert names - {str(path) for path in without} == {
        "photos", "photos/cat", "photos/cat/1.png", "targets/t.toml", "more.npz",
    }  # fmt: skip


def test_training_data_and_functions_are_dependencies_where_there_is_a_rung_for_them(tmp_path: Path) -> None:
    text = '[train]\ndata = "train.npz"\nloss = "loss.py:loss"\nfunction = "fit.py:fit"\n'
    (tmp_path / "edgec.toml").write_text(text)
    project = load_project(tmp_path)
    names = {path.name for path in dependencies(project, tmp_path, [], calibrated=False, trained=True)}
    assert {"train.npz", "loss.py", "fit.py"} <= names
    without = dependencies(project, tmp_path, [], calibrated=False, trained=False)
    assert not {"train.npz", "loss.py", "fit.py"} & {path.name for path in without}
