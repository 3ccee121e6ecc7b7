"""With no gate stated: what misses the goal is kept, and told loudly; what is plainly broken is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from host_target import HOST

import edgec
from edgec.bundle.check import check_digests
from edgec.errors import GateError

from .command import edgec_here as command_here

TARGET = f'extends = "{HOST}-int8"\n[[emit]]\nbackend = "onnxruntime"\n'
TOML = """
[model]
path = "ladder_nets.py:{net}"
[[model.inputs]]
name = "x"
shape = [1, 3, 8, 8]
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
[build]
effort = "fast"
recipe = "min-max"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A regression net that min-max ranges bring to 14 dB, without a gate."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "host.toml").write_text(TARGET)
    shutil.copy(Path(__file__).with_name("ladder_nets.py"), tmp_path)
    rng = np.random.default_rng(0)
    for name, samples in (("calibration", 64), ("evaluation", 128)):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=(samples, 3, 8, 8)).astype(np.float32))
    (tmp_path / "edgec.toml").write_text(TOML.format(net="regression"))
    return tmp_path


def test_what_misses_the_goal_is_kept_and_told_loudly(project: Path) -> None:
    run = command_here("build", "--target", "host", cwd=project)
    assert run.code == 0, run.errors
    assert "model.onnx in onnxruntime BELOW THE GOAL: min_sqnr_db 20 (default): 1" in run.errors
    manifest = check_digests(project / "dist" / "host")
    assert manifest.complete
    (gate,) = manifest.gates
    assert (gate.gate, gate.state, gate.default) == ("min_sqnr_db", "short", True)
    (artifact,) = manifest.artifacts
    assert [(item.rung, item.state) for item in artifact.rungs] == [("min-max", "short")]
    assert artifact.ranges is not None
    assert artifact.ranges.layers
    told = {(item.subject, item.state): item.reason for item in manifest.coverage}
    assert "missed by" in told["model.onnx in onnxruntime", "below the goal"]
    assert any("metric: SQNR, because" in reason for reason in told.values())
    page = (project / "dist" / "host" / "report.html").read_text()
    assert '<p class="loud">model.onnx in onnxruntime BELOW THE GOAL' in page
    assert "0 of 1 gates met, 1 below the goal" in page
    measured = json.loads((project / "dist" / "host" / "measurements.json").read_text())["measurements"]
    assert measured[0]["latency"]  # it is an artifact like any other

    verified = command_here("verify", "dist/host", cwd=project)
    assert verified.code == 0, verified.errors
    before = (project / "dist" / "host" / "manifest.json").read_bytes()
    locked = command_here("build", "--target", "host", "--locked", cwd=project)
    assert locked.code == 0, locked.errors
    assert (project / "dist" / "host" / "manifest.json").read_bytes() == before


def test_a_stated_gate_refuses_what_misses_it(project: Path) -> None:
    with pytest.raises(GateError, match="min_sqnr_db 20"):
        edgec.build(target="host", project=project, settings={"gates.min_sqnr_db": 20.0})


def test_what_is_plainly_broken_is_refused(project: Path) -> None:
    source = (project / "ladder_nets.py").read_text()
    (project / "ladder_nets.py").write_text(source.replace("** 4", "** 8"))
    run = command_here("build", "--target", "host", cwd=project)
    assert run.code == GateError.exit_code, run.errors
    assert "min_sqnr_db 20 (default)" in run.errors
    assert "BELOW THE GOAL" not in run.errors
    assert not (project / "dist" / "host").exists()
