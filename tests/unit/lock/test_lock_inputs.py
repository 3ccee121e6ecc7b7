"""What a target is built from, by name: each change shows under the name of what changed, and nothing else does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.lock.inputs import differences, inputs_before, inputs_loaded, is_only_locked
from edgec.machine import host_isa
from edgec.model.spec import ModelSource, TensorSpec
from edgec.plan.plan import make_plan
from edgec.project.record import flat, settings
from edgec.project.spec import (
    BuildSpec,
    BundleSpec,
    CalibrationSpec,
    DataSpec,
    EvaluationSpec,
    Gates,
    InputSpec,
    ModelSpec,
    Preprocess,
    Project,
    PublishSpec,
    TrainSpec,
)
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
    assert changed(first, inputs(build=build.model_copy(update={"effort": "fast"}))) == {
        "ladder",
        "setting build.effort",
    }
    assert changed(first, inputs(build=build.model_copy(update={"time_budget": 9.0, "out": "elsewhere"}))) == {
        "setting build.time_budget"
    }
    assert changed(first, inputs(train=TrainSpec(data="t.npz"))) == {"ladder", "training", "setting train.data"}
    assert changed(first, inputs(threads=2)) == {"threads"}
    assert changed(first, inputs(model=model.model_copy(update={"arguments": {"width": 2}}))) == {"model arguments"}
    assert changed(first, inputs(model=model.model_copy(update={"path": "model.py:Other"}))) == {
        "model entry",
        "setting model.path",
    }
    assert changed(first, inputs(model=model.model_copy(update={"weights": "other.py"}))) == {
        "weights",
        "setting model.weights",
    }
    assert "target" in changed(first, inputs("rpi4-int8"))
    (tmp_path / "model.pt").write_text("retrained")
    assert changed(first, inputs()) == {"weights"}
    (tmp_path / "model.py").unlink()
    assert inputs()["model"] == "missing"


def test_settings_that_only_the_manifest_tells_are_locked_and_no_reason_to_search(
    inputs: Inputs, tmp_path: Path
) -> None:
    first = inputs()
    (tmp_path / "weights of may.pt").write_bytes((tmp_path / "model.pt").read_bytes())
    renamed = PROJECT.model.model_copy(update={"weights": "weights of may.pt"})
    build = PROJECT.build.model_copy(update={"time_budget": 5000.0, "effort": "max"})
    found = differences(first, inputs("x86-64-int8", model=renamed, build=build))
    assert found.pop("ladder")
    assert found == {
        "setting build.effort": 'default -> "max"',
        "setting build.time_budget": "default -> 5000.0",
        "setting model.weights": '"model.pt" -> "weights of may.pt"',
    }
    assert all(map(is_only_locked, found))
    assert not any(map(is_only_locked, ("ladder", "gates", "weights", "code metric.py", "metric reads a.txt")))
    elsewhere = PROJECT.model.model_copy(update={"weights": f"../{tmp_path.name}/model.pt"})
    assert inputs(model=elsewhere) == first  # wherever the project lies


def test_what_the_manifest_tells_of_a_project_is_locked_whole(inputs: Inputs) -> None:
    """Every key but where bundles go, which targets are built, and what has its default."""
    project = Project(
        model=ModelSpec(
            path="model.py:Net", weights="model.pt", arguments={"width": 2}, inputs=(InputSpec(name="x", shape=(1, 4)),)
        ),
        preprocess=Preprocess(
            divide=255.0, mean=(0.5,), std=(0.25,), resize="fit", pad=3, interpolation="box", color="bgr"
        ),
        calibration=CalibrationSpec(data="c.npz", inputs={"x": "a"}, labels="l", samples=7, more=("m.npz",)),
        evaluation=EvaluationSpec(data="e.npz", inputs={"x": "b"}, labels="m", samples=8, metric="metric.py:score"),
        train=TrainSpec(data="t.npz", labels="n", samples=9, loss="/data/other.py:loss", batch_size=5),
        gates=Gates(max_drop=1.0, min_accuracy=0.5, strict=True),
        build=BuildSpec(seed=4, effort="max", time_budget=60.0, allow_weak_float=True),
        bundle=BundleSpec(float_twin=True),
        publish=PublishSpec(name="digits", version="1.4"),
    )
    tables = {name: getattr(project, name) for name in Project.model_fields}
    found = inputs(**tables)
    told = "\n".join(f"{name} = {value}" for name, value in found.items())
    for key, value in flat(settings(project)):
        if value not in ("null", "[]") and key not in ("model.path", "build.effort"):
            assert f"{key.rpartition('.')[2]}" in told, key
            assert value in told or value.strip('"') in told, key
    assert "/data" not in found["training"]
    assert {name for name in found if name.startswith("setting ")} == {
        "setting " + key
        for key in (
            "build.allow_weak_float", "build.effort", "build.time_budget", "bundle.float_twin", "calibration.data",
            "calibration.inputs.x", "calibration.labels", "calibration.more", "calibration.samples",
            "evaluation.data", "evaluation.inputs.x", "evaluation.labels", "evaluation.samples", "model.inputs",
            "model.path", "model.weights", "preprocess.color", "preprocess.divide", "preprocess.interpolation",
            "preprocess.mean", "preprocess.pad", "preprocess.resize", "preprocess.std",
            "publish.name", "publish.version", "train.data",
        )
    }  # fmt: skip


def test_the_code_of_a_metric_counts(inputs: Inputs, tmp_path: Path) -> None:
    evaluation = EvaluationSpec(data="e.npz", metric="metric.py:score")
    first = inputs(evaluation=evaluation)
    assert first["metric"] == "metric.py:score"
    assert first["code metric.py"] == hashlib.sha256(b"# metric.py").hexdigest()
    (tmp_path / "metric.py").write_text("# another")
    assert changed(first, inputs(evaluation=evaluation)) == {"code metric.py"}
    (tmp_path / "metric.py").write_text("def score(outputs, labels):\n    from other import weight\n")
    first = inputs(evaluation=evaluation)
    (tmp_path / "other.py").write_text("weight = 2")
    assert changed(first, inputs(evaluation=evaluation)) == {"code other.py"}


def test_a_device_counts(inputs: Inputs, tmp_path: Path) -> None:
    devices = tmp_path / "targets" / "devices"
    devices.mkdir(parents=True)
    builtin = load_target("x86-64-int8", tmp_path)
    (device,) = (file for file in builtin.files if file.parent.name == "devices")
    (tmp_path / "targets" / "mine.toml").write_text('extends = "x86-64-int8"\ndevice = "board"\n')
    (devices / "board.toml").write_text(device.read_text().replace(f'name = "{device.stem}"', 'name = "board"'))
    first = inputs("mine")
    assert inputs("mine") == first
    text = (devices / "board.toml").read_text()
    (devices / "board.toml").write_text(text.replace("ram_mb = 4096", "ram_mb = 2048"))
    assert changed(first, inputs("mine")) == {"target"}


def test_toolchain_and_instruction_set_are_there(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    found = inputs()
    assert {"edgec", "python", "torch", "numpy", "onnx", "onnxruntime"} <= set(found)
    assert found["isa"] == host_isa().words()
    for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "AVX2")
            assert changed(found, inputs()) == {"isa"}


def test_data_counts_by_its_content(tmp_path: Path) -> None:
    def spool(name: str, value: int, label: int = 0) -> Spool:
        (tmp_path / f"{name}.py").write_text(
            f"import numpy as np\ndef data():\n    return [(np.full((1, 4), {value}, np.float32), {label})]\n"
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
    labelled = spool("labelled", 1, label=1)
    assert changed(first, inputs_loaded(source, {"calibration": zeros, "evaluation": labelled})) == {"evaluation"}


def test_files_of_a_model_elsewhere_keep_their_folders_apart() -> None:
    path = "../../nets/model.py"
    imported = {"../../nets/a/__init__.py": "1" * 64, "../../nets/b/__init__.py": "2" * 64}
    source = ModelSource(format="python", path=path, sha256="0" * 64, imported=imported)
    assert inputs_loaded(source, {}) == {"imported a/__init__.py": "1" * 64, "imported b/__init__.py": "2" * 64}


def test_differences_are_told_in_short() -> None:
    locked = {"seed": "0", "model": "ab" * 32, "weights": "1" * 64, "torch": "2.13.0"}
    assert differences(locked, locked) == {}
    assert differences(locked, {"seed": "1", "model": "cd" * 32, "torch": "2.13.0", "training": "{}"}) == {
        "model": "abababababab -> cdcdcdcdcdcd",
        "seed": "0 -> 1",
        "training": "none -> {}",
        "weights": "111111111111 -> none",
    }
