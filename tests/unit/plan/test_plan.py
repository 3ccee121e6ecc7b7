"""What a build of a target will do, as values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgec.errors import BackendUnavailableError, ProjectError, TargetError
from edgec.plan.plan import make_plan, record, require_any_toolchain, require_toolchain, without_toolchain
from edgec.project.spec import CalibrationSpec, EvaluationSpec, ModelSpec, Project, TrainSpec
from edgec.target.load import ResolvedTarget, load_target

MODEL = ModelSpec(path="model.py:Net")
EVALUATION = EvaluationSpec(data="e.npz")
COMPLETE = Project(model=MODEL, calibration=CalibrationSpec(data="c.npz"), evaluation=EVALUATION)


TRAINED = COMPLETE.model_copy(update={"train": TrainSpec(data="t.npz")})


def built_in(name: str) -> ResolvedTarget:
    return load_target(name, Path("nowhere"))


def own(root: Path, emit: str, more: str = "") -> ResolvedTarget:
    (root / "targets").mkdir(exist_ok=True)
    (root / "targets" / "mine.toml").write_text(f'device = "rpi4"\nprecision = "int8"\n{more}\n[[emit]]\n{emit}\n')
    return load_target("mine", root)


def test_a_plan_follows_the_targets_order() -> None:
    plan = make_plan(built_in("rpi4-int8"), COMPLETE)
    assert [(item.index, item.backend.name, item.file) for item in plan.emits] == [
        (0, "tflite", "model.tflite"),
        (1, "qnnpack", "model.qnnpack.pt"),
        (2, "onnxruntime", "model.onnx"),
    ]
    assert plan == make_plan(built_in("rpi4-int8"), COMPLETE)
    assert plan != make_plan(built_in("rpi4-fp32"), COMPLETE)


def test_calibration_samples_are_the_projects_or_the_targets() -> None:
    assert make_plan(built_in("rpi4-int8"), COMPLETE).calibration_samples == 256
    stated = COMPLETE.model_copy(update={"calibration": CalibrationSpec(data="c.npz", samples=12)})
    assert make_plan(built_in("rpi4-int8"), stated).calibration_samples == 12
    for name in ("rpi4-fp32", "rpi4-fp16", "rpi4-int8-dynamic"):
        assert make_plan(built_in(name), stated).calibration_samples is None


@pytest.mark.parametrize(
    ("project", "words", "hint"),
    [
        (Project(evaluation=EVALUATION), "no model is named", "edgec build MODEL"),
        (Project(model=MODEL), "no evaluation data is named", "--evaluate DATA"),
        (Project(model=MODEL, evaluation=EVALUATION), "which rpi4-int8 needs for static int8", "--calibration DATA"),
    ],
)
def test_what_the_project_lacks_is_told(project: Project, words: str, hint: str) -> None:
    with pytest.raises(ProjectError) as caught:
        make_plan(built_in("rpi4-int8"), project)
    assert words in caught.value.what
    assert hint in caught.value.hint


def test_float_targets_need_no_calibration() -> None:
    project = Project(model=MODEL, evaluation=EVALUATION)
    assert make_plan(built_in("rpi4-fp32"), project).emits


def test_an_impossible_target_is_refused_before_the_project_is_looked_at(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="fbgemm is for x86_64"):
        make_plan(own(tmp_path, 'backend = "fbgemm"'), Project())


def test_stated_runtimes_are_the_ones_verified(tmp_path: Path) -> None:
    plan = make_plan(own(tmp_path, 'backend = "tflite"\nruntimes = ["tflite-runtime"]'), COMPLETE)
    assert [(item.name, item.judged) for item in plan.emits[0].runtimes] == [("tflite-runtime", True)]
    plan = make_plan(own(tmp_path, 'backend = "tflite"'), COMPLETE)
    assert [item.name for item in plan.emits[0].runtimes] == ["ai-edge-litert", "tflite-runtime"]


def test_a_plan_as_data(tmp_path: Path) -> None:
    table = "[prune]\namount = 0.25\nround_to = 4"
    plan = make_plan(own(tmp_path, 'backend = "onnxruntime"', table), TRAINED)
    told = json.loads(record(plan).model_dump_json())
    assert told["calibration_samples"] == 256
    names = [step["name"] for step in told["portable"]]
    assert names == [
        "replace-in-place-ops",
        "rewrite-as-modules",
        "strip-inference-no-ops",
        "prune",
        "fold-batch-norm",
        "fold-constant-padding",
    ]
    options = told["portable"][3]["options"]
    assert (options["amount"], options["round_to"], options["goal"]) == (0.25, 4, "channels")
    assert "sparsity" not in options
    (artifact,) = told["artifacts"]
    assert (artifact["file"], artifact["backend"], artifact["runtimes"]) == (
        "model.onnx",
        "onnxruntime",
        ["onnxruntime"],
    )
    assert [step["name"] for step in artifact["passes"]] == [step.name for step in plan.emits[0].passes]
    assert artifact["passes"]


def test_channels_are_rounded_as_the_device_computes_them(tmp_path: Path) -> None:
    plan = make_plan(own(tmp_path, 'backend = "onnxruntime"', "[prune]\namount = 0.25"), TRAINED)
    assert plan.prune is not None
    assert plan.prune.round_to == plan.target.device.channel_multiple == 8


@pytest.mark.parametrize("table", ["amount = 0.5", "sparsity = 0.5\npattern = '2:4'"])
def test_pruning_without_training_has_to_be_asked_for(tmp_path: Path, table: str) -> None:
    emit = 'backend = "onnxruntime"'
    with pytest.raises(ProjectError, match="no training data is named") as caught:
        make_plan(own(tmp_path, emit, f"[prune]\n{table}"), COMPLETE)
    assert "without_training" in caught.value.hint
    assert caught.value.where.endswith(".toml:4")
    assert make_plan(own(tmp_path, emit, f"[prune]\n{table}\nwithout_training = true"), COMPLETE).prune is not None
    assert make_plan(own(tmp_path, emit, f"[prune]\n{table}"), TRAINED).prune is not None


def test_importance_from_gradients_needs_training_data(tmp_path: Path) -> None:
    table = "[prune]\namount = 0.5\nimportance = 'taylor'\nwithout_training = true"
    with pytest.raises(ProjectError, match="taylor importance is computed from training data"):
        make_plan(own(tmp_path, 'backend = "onnxruntime"', table), COMPLETE)


def test_a_runtime_that_cannot_be_had_here_stops_what_is_judged_in_it_alone() -> None:
    plan = make_plan(built_in("rpi4-int8"), COMPLETE)
    item = plan.emits[0]
    first, second = item.runtimes
    gone = second.model_copy(update={"missing": "tflite-runtime has no wheel for this Python (3.13)"})
    require_toolchain(plan, replace(item, runtimes=(first, gone)))
    with pytest.raises(BackendUnavailableError, match=r"no wheel for this Python .*, and model.tflite is to be judged"):
        require_toolchain(plan, replace(item, runtimes=(gone,)))
    insisting = item.emit.model_copy(update={"runtimes": (first.name, gone.name)})
    with pytest.raises(BackendUnavailableError):
        require_toolchain(plan, replace(item, emit=insisting, runtimes=(first, gone)))


def test_what_cannot_be_made_here_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(built_in("rpi4-int8"), COMPLETE)
    assert without_toolchain(plan) == {}
    have = {"onnx", "onnxruntime", "onnx2tf", "ai-edge-litert", "tflite-runtime", "torch"}
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: "1.0" if name in have else None)
    ((file, error),) = without_toolchain(plan).items()
    assert (file, error.what, error.hint) == (
        "model.tflite",
        "int8 needs packages that are not installed: tensorflow",
        "pip install 'edgec[tflite]'",
    )
    require_any_toolchain(plan)
    have.clear()
    with pytest.raises(BackendUnavailableError, match="int8 needs packages that are not installed: onnx, "):
        require_any_toolchain(plan)
