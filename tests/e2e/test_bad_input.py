"""What a user can get wrong, through the real command: one clear message, its own exit code, no bundle."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.bundle.check import check_digests
from edgec.errors import (
    DataLeakError,
    DatasetError,
    EdgecError,
    GateError,
    IncompleteError,
    InputSpecError,
    LabelsError,
    ModelError,
    ProjectError,
    StorageError,
    TargetError,
    TraceError,
    UntrustedModelError,
    UsageError,
)

from .command import Run, edgec_here

TARGET = "x86-64-vnni-int8"


def assert_refused(run: Run, error: type[EdgecError], project: Path, *words: str) -> None:
    assert run.code == error.exit_code, run.errors
    assert run.errors.startswith("edgec: error: ") or "edgec: error: " in run.errors
    assert "Traceback" not in run.errors
    for word in words:
        assert word in run.errors
    assert not list((project / "dist").glob("*/manifest.json"))


def edit(project: Path, old: str, new: str) -> None:
    path = project / "edgec.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def one_artifact(project: Path) -> str:
    """A target that only ONNX Runtime makes an artifact of, where it does not matter who does."""
    (project / "targets").mkdir()
    text = f'extends = "{TARGET}"\n[[emit]]\nbackend = "onnxruntime"\n'
    (project / "targets" / "one.toml").write_text(text, encoding="utf-8")
    return "one"


def build(project: Path, *arguments: str, target: str = TARGET) -> Run:
    return edgec_here("build", "--target", target, *arguments, cwd=project)


def test_misspelt_target(project: Path) -> None:
    assert_refused(build(project, target="rpi4-int9"), TargetError, project, 'did you mean "rpi4-int8"')


def test_nothing_is_built_into_a_bundle(project: Path) -> None:
    other = project / "dist" / "other"
    other.mkdir(parents=True)
    (other / "SHA256SUMS").touch()
    run = build(project, "--out", "dist/other")
    assert_refused(
        run, UsageError, project, "this is a bundle, and others cannot be put into it", "name the folder above"
    )
    assert [item.name for item in other.iterdir()] == ["SHA256SUMS"]


def test_glob_that_matches_nothing(project: Path) -> None:
    assert_refused(build(project, target="rpi9-*"), TargetError, project, "rpi9-*")


def test_misspelt_verb_and_option(project: Path) -> None:
    assert_refused(edgec_here("biuld", cwd=project), UsageError, project, 'did you mean "build"')
    assert_refused(build(project, "--max-drp", "1"), UsageError, project, "--max-drop")


def test_unknown_project_key(project: Path) -> None:
    edit(project, "max_drop", "max_drp")
    assert_refused(build(project), ProjectError, project, "edgec.toml:", 'did you mean "max_drop"')


def test_unknown_key_in_the_users_target(project: Path) -> None:
    (project / "targets").mkdir()
    (project / "targets" / "mine.toml").write_text(
        'extends = "x86-64-vnni-int8"\n[quantize]\nsampels = 3\n', encoding="utf-8"
    )
    assert_refused(build(project, target="mine"), TargetError, project, "mine.toml:3", 'did you mean "samples"')


def test_no_project_here(tmp_path: Path) -> None:
    assert_refused(build(tmp_path), ProjectError, tmp_path, "no edgec.toml")


def test_wrong_input_shape(project: Path) -> None:
    edit(project, "shape = [1, 1, 8, 8]", "shape = [1, 3, 8, 8]")
    assert_refused(build(project), InputSpecError, project, "3")


def test_data_of_another_shape(project: Path) -> None:
    np.savez(project / "evaluation.npz", x=np.zeros((20, 1, 9, 9), np.float32), y=np.zeros(20, np.int64))
    run = build(project)
    assert run.code in (DatasetError.exit_code, InputSpecError.exit_code)
    assert "9" in run.errors
    assert "Traceback" not in run.errors


def test_missing_model_file(project: Path) -> None:
    (project / "model.pt").unlink()
    assert_refused(build(project), ModelError, project, "model.pt")


def test_missing_model_entry(project: Path) -> None:
    edit(project, "model.py:", "modle.py:")
    assert_refused(build(project), ModelError, project, "modle.py", "model.py")


def test_not_a_model(project: Path) -> None:
    (project / "net.onnx").write_bytes(b"this is no model")
    assert_refused(build(project, "net.onnx"), ModelError, project, "net.onnx")


def test_pickled_code_is_refused_and_not_run(project: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (Path.write_text, (Path(project / "owned"), "x"))  # type: ignore[return-value]

    torch.save(Payload(), project / "net.pt")
    assert_refused(build(project, "net.pt"), UntrustedModelError, project, "file.py:function")
    assert not (project / "owned").exists()


def test_weights_without_a_model(project: Path) -> None:
    assert_refused(build(project, "model.pt"), ModelError, project, "state_dict")


@pytest.mark.parametrize("which", ["calibration", "evaluation"])
def test_empty_data(project: Path, which: str) -> None:
    np.savez(project / f"{which}.npz", x=np.zeros((0, 1, 8, 8), np.float32), y=np.zeros(0, np.int64))
    assert_refused(build(project), DatasetError, project, f"{which}.npz", "empty")


def test_nan_in_calibration_data(project: Path) -> None:
    data = dict(np.load(project / "calibration.npz"))
    data["x"] = data["x"].astype(np.float32)
    data["x"][:, 0, 0] = np.nan
    np.savez(project / "calibration.npz", **data)
    assert_refused(build(project), DatasetError, project, "calibration.npz", "NaN")


def test_missing_data_suggests(project: Path) -> None:
    (project / "calibration.npz").rename(project / "calibrations.npz")
    assert_refused(build(project), DatasetError, project, "calibration.npz", "calibrations.npz")


def test_calibration_overlaps_evaluation(project: Path) -> None:
    shutil.copy(project / "evaluation.npz", project / "calibration.npz")
    assert_refused(build(project), DataLeakError, project, "sample")


def test_labels_missing_for_top1(project: Path) -> None:
    np.savez(project / "evaluation.npz", x=np.load(project / "evaluation.npz")["x"])
    assert_refused(build(project, "--metric", "top1"), LabelsError, project, "top1")


def test_model_that_cannot_be_traced(project: Path) -> None:
    (project / "model.py").write_text(
        (project / "model.py")
        .read_text()
        .replace("        return ", "        if images.sum() > 1e9:\n            images = -images\n        return ", 1)
    )
    line = next(
        number
        for number, text in enumerate((project / "model.py").read_text().splitlines(), 1)
        if "images.sum() > 1e9" in text
    )
    (project / "targets").mkdir()
    text = 'extends = "x86-64-vnni-fp32"\n[[emit]]\nbackend = "onnxruntime"\n[[emit]]\nbackend = "fbgemm"\n'
    (project / "targets" / "two.toml").write_text(text, encoding="utf-8")
    run = build(project, "--all-or-nothing", target="two")
    assert_refused(run, TraceError, project, f"model.py:{line}", "if images.sum() > 1e9")
    run = build(project, target="two")
    assert run.code == IncompleteError.exit_code, run.errors
    assert re.search(rf"NOT BUILT: model\.fbgemm\.pt .*model\.py:{line}", run.errors)
    manifest = check_digests(project / "dist" / "two")
    assert [item.artifact.file for item in manifest.artifacts] == ["model.onnx"]
    assert [gap.subject for gap in manifest.missing] == ["model.fbgemm.pt"]


def test_gate_not_met_leaves_no_bundle(project: Path) -> None:
    one = one_artifact(project)
    assert build(project, "--effort", "fast", target=one).code == 0
    assert (project / "dist" / one / "manifest.json").exists()
    run = build(project, "--effort", "fast", "--min-sqnr", "200", target=one)
    assert_refused(run, GateError, project, "min_sqnr_db", "200")


def test_size_budget(project: Path) -> None:
    run = build(project, "--effort", "fast", "--max-size", "1", target=one_artifact(project))
    assert_refused(run, GateError, project, "size")


def test_an_entry_that_ends_the_process(project: Path) -> None:
    text = (
        (project / "model.py").read_text().replace("super().__init__()\n", "super().__init__()\n        sys.exit(0)\n")
    )
    (project / "model.py").write_text(f"import sys\n{text}")
    line = text.splitlines().index("        sys.exit(0)") + 2
    assert_refused(build(project), ProjectError, project, f"model.py:{line}", "ended the process", "sys.exit(0)")


def test_something_foreign_in_the_bundle_s_place(project: Path) -> None:
    place = project / "dist" / TARGET
    place.mkdir(parents=True)
    (place / "precious.txt").write_text("mine")
    run = build(project)
    assert_refused(run, StorageError, project, "in the way")
    assert "load model" not in run.errors  # known before any work
    assert (place / "precious.txt").read_text() == "mine"


def test_size_gate_gives_fitting_advice(project: Path) -> None:
    run = build(project, "--max-size", "1", target="x86-64-vnni-fp32")
    assert_refused(run, GateError, project, "max_size_kib", "a smaller model")
    assert "calibration data" not in run.errors
