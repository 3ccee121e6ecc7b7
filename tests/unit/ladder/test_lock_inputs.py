"""What a target is built from, by name: each change shows under the name of what changed, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.ladder.lock_inputs import differences, inputs_before, inputs_loaded
from edgec.machine import host_isa
from edgec.model.spec import ModelSource, TensorSpec
from edgec.plan import make_plan
from edgec.project.spec import CalibrationSpec, DataSpec, EvaluationSpec, ModelSpec, Preprocess, Project, TrainSpec
from edgec.target.load import load_target

PROJECT = Project(
    model=ModelSpec(path="model.py:Net", weights="model.pt"),
    calibration=CalibrationSpec(data="c.npz"),
    evaluation=EvaluationSpec(data="e.npz"),
)
Inputs = Callable[..., dict[str, str]]


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Inputs of a project with some tables replaced."""
    for name in ("model.py", "model.pt", "metric.py", "other.py"):
        (tmp_path / name).write_text(f"# {name}")

    def make(target: str = "x86-64-int8", threads: int = 1, **tables: object) -> dict[str, str]:
        plan = make_plan(load_target(target, tmp_path), PROJECT.model_copy(update=tables))
        return inputs_before(plan, tmp_path, threads)

    return make


def changed(one: dict[str, str], other: dict[str, str]) -> set[str]:
    return set(differences(one, other))


def test_each_change_has_its_name(inputs: Inputs, tmp_path: Path) -> None:
    first = inputs()
    build, model = PROJECT.build, PROJECT.model
    assert inputs() == first
    assert changed(first, inputs(gates=PROJECT.gates.model_copy(update={"strict": True}))) == {"gates"}
    assert changed(first, inputs(build=build.model_copy(update={"seed": 1}))) == {"seed"}
    assert changed(first, inputs(build=build.model_copy(update={"effort": "fast"}))) == {"ladder"}
    assert changed(first, inputs(build=build.model_copy(update={"time_budget": 9.0, "out": "elsewhere"}))) == set()
    assert changed(first, inputs(train=TrainSpec(data="t.npz"))) == {"ladder", "training"}
    assert changed(first, inputs(threads=2)) == {"threads"}
    assert changed(first, inputs(model=model.model_copy(update={"arguments": {"width": 2}}))) == {"model arguments"}
    assert changed(first, inputs(model=model.model_copy(update={"path": "model.py:Other"}))) == {"model entry"}
    assert changed(first, inputs(model=model.model_copy(update={"weights": "other.py"}))) == {"weights"}
    assert "target" in changed(first, inputs("rpi4-int8"))
    (tmp_path / "model.pt").write_text("retrained")
    assert changed(first, inputs()) == {"weights"}
    (tmp_path / "model.py").unlink()
    assert inputs()["model"] == "missing"


def test_the_name_of_a_file_does_not_matter(inputs: Inputs, tmp_path: Path) -> None:
    first = inputs()
    (tmp_path / "weights of may.pt").write_bytes((tmp_path / "model.pt").read_bytes())
    assert inputs(model=PROJECT.model.model_copy(update={"weights": "weights of may.pt"})) == first


def test_the_code_of_a_metric_counts(inputs: Inputs, tmp_path: Path) -> None:
    evaluation = EvaluationSpec(data="e.npz", metric="metric.py:score")
    first = inputs(evaluation=evaluation)
    assert first["metric"] == "metric.py:score"
    assert first["code metric.py"] == hashlib.sha256(b"# metric.py").hexdigest()
    (tmp_path / "metric.py").write_text("# another")
    assert changed(first, inputs(evaluation=evaluation)) == {"code metric.py"}


def test_toolchain_and_instruction_set_are_there(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inputs()
    assert {"edgec", "python", "torch", "numpy", "onnx", "onnxruntime"} <= set(found)
    assert found["isa"] == host_isa().words()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert changed(found, inputs()) == {"isa"}


def test_data_counts_by_its_content(tmp_path: Path) -> None:
    def spool(name: str, value: int) -> Spool:
        (tmp_path / f"{name}.py").write_text(
            f"import numpy as np\ndef data():\n    return [np.full((1, 4), {value}, np.float32)]\n"
        )
        specs = (TensorSpec(name="x", shape=(1, 4)),)
        return write_spool(
            DataSpec(data=f"{name}.py:data"), Preprocess(), specs, tmp_path / name, tmp_path,
            samples=None, seed=0, what="calibration",
        )  # fmt: skip

    zeros, same, ones = spool("zeros", 0), spool("same", 0), spool("ones", 1)
    source = ModelSource(format="python", path="../net/model.py", sha256="0" * 64, imported={"../net/b.py": "1" * 64})
    first = inputs_loaded(source, {"calibration": zeros, "evaluation": ones, "training samples": None})
    assert first == {
        "imported b.py": "1" * 64,
        "calibration": zeros.info.content_digest,
        "evaluation": ones.info.content_digest,
    }
    assert inputs_loaded(source, {"calibration": same, "evaluation": ones}) == first
    assert changed(first, inputs_loaded(source, {"calibration": ones, "evaluation": ones})) == {"calibration"}


def test_differences_are_told_in_short() -> None:
    locked = {"seed": "0", "model": "ab" * 32, "weights": "1" * 64, "torch": "2.13.0"}
    assert differences(locked, locked) == {}
    assert differences(locked, {"seed": "1", "model": "cd" * 32, "torch": "2.13.0", "training": "{}"}) == {
        "model": "abababababab -> cdcdcdcdcdcd",
        "seed": "0 -> 1",
        "training": "none -> {}",
        "weights": "111111111111 -> none",
    }
