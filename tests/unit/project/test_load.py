"""edgec.toml and flags make one project; paths are relative to where they were written."""

from pathlib import Path

import pytest

from edgec.errors import ProjectError, UsageError
from edgec.project.flags import flags
from edgec.project.load import load_project, split_entry
from edgec.project.record import settings
from edgec.project.spec import (
    BuildSpec,
    BundleSpec,
    CalibrationSpec,
    EvaluationSpec,
    Gates,
    ModelSpec,
    Preprocess,
    Project,
    PublishSpec,
    TrainSpec,
)

TOML = """
[model]
path = "model.py:load"
weights = "model.pt"
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
[gates]
max_drop = 1.0
"""


def project_folder(tmp_path: Path) -> Path:
    (tmp_path / "edgec.toml").write_text(TOML)
    return tmp_path


def test_a_flag_sets_its_one_key(tmp_path: Path) -> None:
    project = load_project(project_folder(tmp_path), {("gates", "max_drop"): 0.2, ("evaluation", "metric"): "top1"})
    assert project.gates.max_drop == 0.2
    assert project.evaluation is not None
    assert (project.evaluation.metric, project.evaluation.data) == ("top1", "evaluation.npz")
    assert project.model.weights == "model.pt"


def test_a_model_flag_replaces_the_whole_model_table(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    project = load_project(project_folder(tmp_path), {("model", "path"): "net.onnx"}, cwd=other)
    assert project.model.path == "other/net.onnx"
    assert project.model.weights is None


def test_flag_paths_are_relative_to_the_working_folder(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    values = {("calibration", "data"): "data.py:calibration", ("evaluation", "metric"): "metric.py:f1"}
    project = load_project(project_folder(tmp_path), values, cwd=other)
    assert project.calibration is not None
    assert project.calibration.data == "other/data.py:calibration"
    assert project.evaluation is not None
    assert project.evaluation.metric == "other/metric.py:f1"


def test_further_calibration_data_is_relative_too(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    values = {("calibration", "data"): "c.npz", ("calibration", "more"): ["a.npz", "../b.npz"]}
    project = load_project(project_folder(tmp_path), values, cwd=other)
    assert project.calibration is not None
    assert project.calibration.more == ("other/a.npz", "b.npz")
    outside = project.calibration.model_copy(update={"more": ("../c.npz", "b.npz")})
    told = settings(project.model_copy(update={"calibration": outside}))
    assert told["calibration"]["more"] == ["c.npz", "b.npz"]


def test_flags_alone_are_enough(tmp_path: Path) -> None:
    values = {("model", "path"): "m.onnx", ("evaluation", "data"): "e.npz"}
    assert load_project(tmp_path, values, cwd=tmp_path).model.path == "m.onnx"


def test_neither_file_nor_model(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no edgec\.toml"):
        load_project(tmp_path)


def test_a_bad_flag_value_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"command line.*gates\.max_drop"):
        load_project(project_folder(tmp_path), {("gates", "max_drop"): -1.0})


def test_every_key_has_a_flag_of_its_own() -> None:
    found = list(flags())
    tables = {
        "model": ModelSpec,
        "preprocess": Preprocess,
        "calibration": CalibrationSpec,
        "evaluation": EvaluationSpec,
        "train": TrainSpec,
        "gates": Gates,
        "build": BuildSpec,
        "bundle": BundleSpec,
        "publish": PublishSpec,
    }
    assert set(tables) == set(Project.model_fields)
    assert {flag.key for flag in found} == {(name, key) for name, spec in tables.items() for key in spec.model_fields}
    names = [flag.flag for flag in found]
    assert len(set(names)) == len(names)
    assert {"MODEL", "--calibration", "--evaluate", "--max-drop", "--target", "--metric", "--divide"} <= set(names)
    assert all(flag.help for flag in found)


def test_names_and_versions_to_publish_are_checked(tmp_path: Path) -> None:
    root = project_folder(tmp_path)
    publish = load_project(root, {("publish", "name"): "digits", ("publish", "version"): "1.4rc1"}).publish
    assert (publish.name, publish.version) == ("digits", "1.4rc1")
    for version in ("latest", "1.4-rc-x", "", "1" * 101):
        with pytest.raises(ProjectError, match=r"publish\.version.*(PEP 440|100 characters)"):
            load_project(root, {("publish", "version"): version})
    for name in ("", "-x", "a b", "a/b", "x" * 101):
        with pytest.raises(ProjectError, match=r"publish\.name"):
            load_project(root, {("publish", "name"): name})


def test_structured_flags() -> None:
    by_name = {flag.flag: flag for flag in flags()}
    assert by_name["--input"].parse(["x:1x3x8x8", "ids:1x7:int64"]) == [
        {"name": "x", "shape": [1, 3, 8, 8]},
        {"name": "ids", "shape": [1, 7], "dtype": "int64"},
    ]
    assert by_name["--argument"].parse(["batch_norm=true", "name=a=b"]) == {"batch_norm": True, "name": "a=b"}
    assert by_name["--mean"].parse("0.1,0.2") == [0.1, 0.2]
    # TensorFlow's names hold colons
    assert by_name["--input"].parse(["input:0:1x4", "in:1:1x7:int64"]) == [
        {"name": "input:0", "shape": [1, 4]},
        {"name": "in:1", "shape": [1, 7], "dtype": "int64"},
    ]
    for flag, bad in (("--input", ["x"]), ("--input", ["x:1xq"]), ("--argument", ["x"])):
        with pytest.raises(UsageError, match=flag):
            by_name[flag].parse(bad)
    with pytest.raises(UsageError):
        by_name["--mean"].parse("a,b")


def test_split_entry() -> None:
    assert split_entry("a/model.py:load") == ("a/model.py", "load")
    assert split_entry("model.onnx") is None
    assert split_entry("C:model.onnx") is None
