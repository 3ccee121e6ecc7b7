"""`edgec check` through the real command: all problems at once, and none where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from edgec.errors import LabelsError, ModelError, ProjectError

from .command import edgec, edgec_here

BOTH = ("-t", "rpi4-int8", "-t", "x86-64-vnni-int8")


def test_nothing_is_wrong(project: Path) -> None:
    run = edgec("check", *BOTH, cwd=project)
    assert run.code == 0, run.output + run.errors
    assert "rpi4-int8, x86-64-vnni-int8: 0 errors, 0 warnings, in" in run.output
    assert "the float model was run on" in run.output
    assert not (project / "dist").exists()  # nothing is left behind


def break_in_six_ways(project: Path) -> None:
    """A misspelt key, a misspelt target, weights that are missing, NaN, a leak, and labels that do not fit."""
    text = (project / "edgec.toml").read_text().replace("max_drop", "max_drp")
    (project / "edgec.toml").write_text(f'{text}\n[build]\ntargets = ["rpi4-int8", "rpi4-int9"]\n')
    (project / "model.pt").unlink()
    calibration, evaluation = (dict(np.load(project / f"{name}.npz")) for name in ("calibration", "evaluation"))
    calibration = {name: array[:200] for name, array in calibration.items()}  # fewer than are drawn
    calibration["x"] = calibration["x"].astype(np.float32)
    calibration["x"][:20] = evaluation["x"][:20]
    calibration["x"][-1] = np.nan
    evaluation["y"] = evaluation["y"] + 1
    np.savez(project / "calibration.npz", **calibration)
    np.savez(project / "evaluation.npz", **evaluation)


def test_six_problems_in_one_go(project: Path) -> None:
    break_in_six_ways(project)
    run = edgec_here("check", "--json", cwd=project)
    found = json.loads(run.output)
    errors = [item for item in found["findings"] if item["severity"] == "error"]
    assert [item["kind"] for item in errors] == ["project", "target", "model", "data", "labels", "leak"]
    assert (found["errors"], found["exit_code"], run.code) == (6, ProjectError.exit_code, ProjectError.exit_code)
    told = {item["kind"]: f"{item['where']}: {item['what']} {item['hint']}" for item in errors}
    assert 'did you mean "max_drop"' in told["project"]
    assert 'did you mean "rpi4-int8"' in told["target"]
    assert "model.pt: no such file" in told["model"]
    assert "NaN" in told["data"]
    assert "labels go from 1 to 10, but the output has 10 classes" in told["labels"]
    assert "20 of " in told["leak"]
    assert "Traceback" not in run.errors


def test_a_build_tells_all_of_it_before_any_work(project: Path) -> None:
    break_in_six_ways(project)
    run = edgec_here("build", cwd=project)
    assert run.code == ProjectError.exit_code
    for words in ("max_drop", "rpi4-int9", "model.pt: no such file", "NaN", "labels go from 1 to 10", "20 of "):
        assert words in run.errors
    assert run.errors.count("unknown key") == 1  # each is told once
    assert "load model" not in run.errors


def test_a_build_that_fails_while_it_reads_tells_the_rest(project: Path) -> None:
    data = dict(np.load(project / "calibration.npz"))
    data["x"] = data["x"].astype(np.float32)
    data["x"][:, 0, 0] = np.nan
    np.savez(project / "calibration.npz", **data)
    shutil.copy(project / "evaluation.npz", project / "held-out.npz")
    labels = np.load(project / "evaluation.npz")["y"]
    np.savez(project / "held-out.npz", x=np.load(project / "evaluation.npz")["x"], y=labels + 20)
    run = edgec_here("build", "-t", "x86-64-vnni-int8", "--evaluate", "held-out.npz", cwd=project)
    assert run.code == LabelsError.exit_code
    assert "labels go from 20 to 29" in run.errors
    assert run.errors.count("NaN or infinite") == 1


def test_warnings_alone_are_no_failure(project: Path) -> None:
    data = np.load(project / "calibration.npz")
    np.savez(project / "calibration.npz", x=data["x"][:10], y=data["y"][:10] * 0)
    run = edgec_here("check", "-t", "rpi4-int8", cwd=project)
    assert run.code == 0
    assert "warning: calibration.npz: 10 calibration samples are few" in run.output
    assert "all 10 calibration samples are of one class, 0" in run.output


def test_a_byte_order_mark(project: Path) -> None:
    text = (project / "edgec.toml").read_bytes()
    (project / "edgec.toml").write_bytes(b"\xef\xbb\xbf" + text)
    for verb in ("check", "build"):
        run = edgec_here(verb, "-t", "rpi4-int8", cwd=project)
        assert run.code == ProjectError.exit_code
        assert "edgec.toml:1: the file begins with a UTF-8 byte order mark (BOM)" in run.output + run.errors
        assert 'save it as "UTF-8"' in run.output + run.errors
    (project / "edgec.toml").write_bytes(text.replace(b"\n", b"\r\n"))
    assert edgec_here("check", "-t", "rpi4-int8", cwd=project).code == 0


def test_a_model_named_without_a_project(project: Path, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    run = edgec_here("check", "net.onnx", "-t", "rpi4-int8", cwd=tmp_path)
    assert run.code == ProjectError.exit_code
    for words in ("no evaluation data is named", "no calibration data is named", "not an ONNX model"):
        assert words in run.output
    run = edgec_here(
        "check", "net.onnx", "-t", "rpi4-fp32", "--evaluate", str(project / "evaluation.npz"), cwd=tmp_path
    )
    assert run.code == ModelError.exit_code
