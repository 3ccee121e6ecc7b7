"""The accuracy ladder rescues what plain quantization breaks, tells which rung did it, and remembers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_target import HOST

import edgec
from edgec.bundle.check import check_digests
from edgec.errors import DatasetError, GateError, ProjectError, StoppedError, UnsupportedError, UsageError
from edgec.verify.records import RungRecord

from .command import edgec as command
from .command import edgec_here as command_here
from .command import start, workers

pytestmark = pytest.mark.usefixtures("own_cache")

TARGETS = {
    "host": f'extends = "{HOST}-int8"\n[[emit]]\nbackend = "onnxruntime"\n',
    "falls-back": 'extends = "host"\n[quantize]\nfallback = "fp16"\n',
    "four-bits": 'extends = "host"\nprecision = "int4-weight-only"\n',
    "two": f'extends = "{HOST}-int8"\n[[emit]]\nbackend = "onnxruntime"\n[[emit]]\nbackend = "fbgemm"\n',
}
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
metric = "sqnr"
[gates]
min_sqnr_db = {gate}
[build]
effort = "fast"
"""
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A project of one of the nets, with noise as its data."""

    def project(net: str, gate: float, more: str = "") -> Path:
        (tmp_path / "targets").mkdir()
        for name, text in TARGETS.items():
            (tmp_path / "targets" / f"{name}.toml").write_text(text)
        shutil.copy(Path(__file__).with_name("ladder_nets.py"), tmp_path)
        rng = np.random.default_rng(0)
        for name, samples in (("calibration", 64), ("evaluation", 128), ("training", 256)):
            np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=(samples, 3, 8, 8)).astype(np.float32))
        (tmp_path / "edgec.toml").write_text(TOML.format(net=net, gate=gate) + more)
        return tmp_path

    return project


def build(project: Path, target: str = "host", **settings: Any) -> tuple[edgec.Bundle, list[str]]:
    """The bundle, and the steps that were told."""
    steps: list[str] = []
    stated = {name.replace("__", "."): value for name, value in settings.items()}
    return edgec.build(target=target, project=project, settings=stated, progress=steps.append), steps


def told(rungs: tuple[RungRecord, ...]) -> list[tuple[str, str]]:
    return [(item.rung, item.state) for item in rungs]


def tried_out(steps: list[str]) -> bool:
    """Whether a candidate or a set of layers was run on calibration samples (verification tells no `run in`)."""
    return any(re.search(r"model\.onnx: (run in|float layers)", step) for step in steps)


@pytest.mark.parametrize(
    ("net", "gate", "rungs", "recipe"),
    [
        ("outlier", 35.0, ["min-max", "calibration", "corrections"], {"equalize": True}),
        pytest.param(
            "dead", 45.0, ["min-max", "calibration", "corrections"], {"equalize": True}, marks=pytest.mark.slow
        ),
        pytest.param(
            "depthwise", 42.0, ["min-max", "calibration", "corrections"], {"equalize": True}, marks=pytest.mark.slow
        ),
        pytest.param(
            "regression",
            35.0,
            ["min-max", "calibration", "corrections", "dynamic-linear"],
            {"linear": "dynamic"},
            marks=pytest.mark.slow,
        ),
        (
            "convolved",
            35.0,
            ["min-max", "calibration", "corrections", "adaptive-rounding", "mixed-precision"],
            {"float_layers": ("last",)},
        ),
    ],
)
def test_hard_cases_are_rescued(make: Make, net: str, gate: float, rungs: list[str], recipe: dict[str, Any]) -> None:
    bundle, _ = build(make(net, gate))
    (artifact,) = bundle.manifest.artifacts
    assert [item.rung for item in artifact.rungs] == rungs
    first, last = artifact.rungs[0], artifact.rungs[-1]
    assert (first.state, last.state) == ("failed", "met")
    assert first.sqnr_db is not None
    assert first.sqnr_db < gate
    assert "min_sqnr_db" in first.reason
    assert all(item.state in ("failed", "skipped") and item.reason for item in artifact.rungs[:-1])
    assert artifact.recipe == last.recipe
    for key, value in recipe.items():
        assert getattr(artifact.recipe, key) == value
    (measured,) = bundle.measurements
    assert measured.sqnr_db() == last.sqnr_db
    assert last.sqnr_db is not None
    assert last.sqnr_db >= gate
    if "float_layers" in recipe:
        in_float = [op.op for op in measured.ops if op.dtype == "float32" and op.op in ("Conv", "Gemm", "MatMul")]
        assert len(in_float) == 1  # the layer of the recipe, and no other
    if "linear" in recipe:
        assert not [op.op for op in measured.ops if op.dtype == "float32" and op.op in ("Conv", "Gemm", "MatMul")]


def test_the_lock_is_followed_until_its_inputs_change(make: Make, own_cache: Path) -> None:
    project = make("outlier", 35.0)
    first, steps = build(project)
    assert tried_out(steps)
    manifest = (first.path / "manifest.json").read_bytes()
    lock = (project / "edgec.lock").read_bytes()
    shutil.rmtree(project / "dist")
    shutil.rmtree(own_cache)
    again, steps = build(project)
    assert not tried_out(steps)
    assert (again.path / "manifest.json").read_bytes() == manifest
    assert (project / "edgec.lock").read_bytes() == lock

    looser, steps = build(project, gates__min_sqnr_db=10.0)
    assert any("edgec.lock no longer holds (gates changed): search again" in step for step in steps)
    assert told(looser.manifest.artifacts[0].rungs) == [("min-max", "met")]
    text = (project / "ladder_nets.py").read_text()
    (project / "ladder_nets.py").write_text(text.replace("*= 200", "*= 2"))
    _, steps = build(project, gates__min_sqnr_db=10.0)
    assert any("edgec.lock no longer holds (model changed): search again" in step for step in steps)

    (project / "edgec.lock").write_bytes(lock[:-20])
    with pytest.raises(ProjectError) as caught:
        build(project)
    assert "edgec.lock" in caught.value.where
    assert "delete it" in caught.value.hint


def test_fallback_is_taken_loudly_or_not_at_all(make: Make) -> None:
    project = make("outlier", 70.0)
    run = command("build", "--target", "falls-back", "--recipe", "min-max", cwd=project)
    assert run.code == 0, run.errors
    manifest = check_digests(project / "dist" / "falls-back")
    (artifact,) = manifest.artifacts
    assert artifact.artifact.precision == "fp16"
    assert told(artifact.rungs) == [("min-max", "failed"), ("fallback", "met")]
    assert any(item.state.endswith("fp16") and item.subject == "model.onnx" for item in manifest.coverage)
    assert "fp16: no rung of the accuracy ladder met the gates" in run.errors

    run = command("build", "--target", "host", "--recipe", "calibration", cwd=project)
    assert run.code == GateError.exit_code
    assert not (project / "dist" / "host").exists()
    rows = [line.split()[1:3] for line in run.errors.splitlines() if line.startswith("model.onnx")]
    assert ["calibration", "failed"] in rows
    assert not any(row[0] in ("min-max", "corrections", "mixed-precision") for row in rows)

    with pytest.raises(UnsupportedError, match=r"no rung .* can be tried .*16-bit activations"):
        build(project, build__recipe="int16-activations")
    bundle, _ = build(project, "falls-back", build__recipe="int16-activations")
    assert told(bundle.manifest.artifacts[0].rungs) == [("int16-activations", "skipped"), ("fallback", "met")]


def test_wrong_names_are_refused_with_those_there_are(make: Make) -> None:
    project = make("outlier", 35.0)
    with pytest.raises(ProjectError, match='no rung "training"') as caught:
        build(project, build__recipe="training")
    assert "min-max, calibration, corrections" in caught.value.hint
    for flag, names in (("--recipe", "mixed-precision"), ("--effort", "balanced")):
        run = command_here("build", "--target", "host", flag, "best", cwd=project)
        assert run.code in (UsageError.exit_code, ProjectError.exit_code)
        assert names in run.errors
        assert "Traceback" not in run.errors
    assert not (project / "dist").exists()


@pytest.mark.slow
def test_no_time_for_more_than_the_first_attempt(make: Make) -> None:
    project = make("outlier", 35.0)
    run = command_here("build", "--target", "host", "--time-budget", "0.001", cwd=project)
    assert run.code == GateError.exit_code
    assert re.search(r"model\.onnx +min-max +failed", run.errors)
    for rung in ("calibration", "corrections", "mixed-precision"):
        assert re.search(rf"model\.onnx +{rung} +skipped .*the time budget is used up", run.errors)
    assert not list(project.glob("dist/*/manifest.json"))
    bundle, _ = build(project, "falls-back", build__time_budget=0.001)
    assert bundle.manifest.artifacts[0].rungs[-1].reason.startswith("fp16: the time budget is used up")


def test_four_bits_are_rounded_adaptively_or_trained(make: Make) -> None:
    project = make("outlier", 44.0, '[train]\ndata = "training.npz"\nepochs = 2\n')
    bundle, _ = build(project, "four-bits")
    (artifact,) = bundle.manifest.artifacts
    assert told(artifact.rungs) == [("min-max", "failed"), ("corrections", "failed"), ("adaptive-rounding", "met")]
    bundle, steps = build(project, "four-bits", build__recipe="training", gates__min_sqnr_db=20.0)
    (artifact,) = bundle.manifest.artifacts
    assert told(artifact.rungs) == [("training", "met")]
    assert artifact.recipe.train
    assert any(step.startswith("train: ") for step in steps)
    assert any(item.state == "trained" and item.subject == "model.onnx" for item in bundle.manifest.coverage)


@pytest.mark.slow
def test_training_is_the_last_rung_and_its_samples_are_part_of_the_lock(make: Make) -> None:
    project = make("outlier", 70.0, '[train]\ndata = "training.npz"\nepochs = 4\n')
    first, steps = build(project, "falls-back")
    rungs = told(first.manifest.artifacts[0].rungs)
    assert rungs[-2:] == [("training", "failed"), ("fallback", "met")]
    assert all(state != "met" for _, state in rungs[:-1])
    reading = next(index for index, step in enumerate(steps) if step.startswith("read training samples"))
    assert any("float layers" in step for step in steps[:reading])  # not before it was its turn
    again, steps = build(project, "falls-back")
    assert not tried_out(steps)
    assert again.manifest == first.manifest
    with np.load(project / "training.npz") as stored:
        np.savez(project / "training.npz", x=stored["x"] * 0.999)
    _, steps = build(project, "falls-back")
    assert any("edgec.lock no longer holds (training samples changed): search again" in step for step in steps)

    (project / "training.npz").unlink()
    with pytest.raises(DatasetError, match="no such file") as caught:
        build(project, "falls-back")  # told at once, though it would be read late
    assert "training.npz" in caught.value.where


def wait_for(lines: Any, words: str) -> None:
    assert any(words in line for line in lines), f"the build ended before it said {words!r}"


@pytest.mark.slow
def test_a_process_killed_once_changes_nothing(make: Make) -> None:
    project = make("outlier", 35.0)
    process = start("build", "--target", "host", cwd=project)
    wait_for(process.stderr, "model.onnx: run in onnxruntime")
    for pid in workers(process.pid):
        os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    (artifact,) = check_digests(project / "dist" / "host").artifacts
    assert not [item.failure for rung in artifact.rungs for item in rung.candidates if item.failure]
    assert artifact.rungs[-1].state == "met"


@pytest.mark.slow
def test_ctrl_c_ends_two_climbs(make: Make) -> None:
    project = make("outlier", 60.0)
    process = start("build", "--target", "two", "-j2", cwd=project)
    wait_for(process.stderr, "run in ")
    running = workers(process.pid)
    assert running
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == StoppedError.exit_code, errors
    assert "Traceback" not in errors
    deadline = time.monotonic() + 20
    while any(Path("/proc", str(pid)).exists() for pid in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in running if Path("/proc", str(pid)).exists()]
    assert not list(project.glob("dist/*/manifest.json"))
    assert not (project / "edgec.lock").exists()
