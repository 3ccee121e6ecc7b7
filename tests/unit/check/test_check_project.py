"""edgec.toml and targets: everything that is wrong is reported, and the rest is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.check.project import read_project
from edgec.check.records import exit_code
from edgec.errors import BackendUnavailableError, ProjectError, TargetError

from .conftest import TOML, Look, of_kind


def test_nothing_is_wrong(look: Look) -> None:
    checked = look("rpi4-int8", "x86-64-vnni-int8")
    assert not [item for item in checked.findings if item.severity == "error"], checked.findings
    assert not [item for item in checked.findings if item.kind not in ("op",)], checked.findings
    assert checked.targets == ("rpi4-int8", "x86-64-vnni-int8")
    assert (checked.exit_code, checked.looked_at, checked.samples_run) == (0, "", 60)


def test_every_key_that_is_wrong(folder: Path) -> None:
    text = TOML + 'metrik = "top1"\n[gates]\nmax_drop = "much"\nmin_agreement = 2\n[buildd]\nout = "o"\n'
    (folder / "edgec.toml").write_text(text)
    project, checked = read_project(folder, {})
    assert [item.where.rpartition(":")[2] for item in checked] == ["7", "9", "10", "11"]
    assert 'did you mean "metric"' in checked[0].what
    assert "wrong type" in checked[1].what
    assert exit_code(checked) == ProjectError.exit_code
    assert project.evaluation is not None
    assert project.evaluation.data == "e.npz"
    assert project.gates.max_drop is None


def test_a_table_without_its_key(folder: Path) -> None:
    (folder / "edgec.toml").write_text('[model]\npath = "net.onnx"\n[calibration]\nsamples = 3\n')
    project, checked = read_project(folder, {("build", "seed"): 7})
    assert [item.what for item in checked] == ["calibration.data: missing; it has no default"]
    assert (project.model.path, project.calibration, project.build.seed) == ("net.onnx", None, 7)


def test_a_byte_order_mark_is_reported_and_the_rest_is_read(folder: Path) -> None:
    (folder / "edgec.toml").write_bytes(b"\xef\xbb\xbf" + TOML.replace("\n", "\r\n").encode())
    project, checked = read_project(folder, {})
    (mark,) = checked
    assert "BOM" in mark.what
    assert "without BOM" in mark.hint or "not" in mark.hint
    assert project.model.path == "net.onnx"


def test_line_ends_of_windows_are_harmless(folder: Path) -> None:
    (folder / "edgec.toml").write_bytes(TOML.replace("\n", "\r\n").encode())
    project, checked = read_project(folder, {})
    assert not checked
    assert project.evaluation is not None


def test_no_toml_at_all(folder: Path) -> None:
    (folder / "edgec.toml").write_text("[model\n")
    project, checked = read_project(folder, {("model", "path"): str(folder / "net.onnx")})
    assert [item.kind for item in checked] == ["project"]
    assert "not valid TOML" in checked[0].what
    assert project.model.path == "net.onnx"


def test_all_targets_are_looked_at(look: Look) -> None:
    checked = look("rpi4-int9", "nothing-*", "rpi4-fp32")
    wrong = of_kind(checked, "target")
    assert [item.exit_code for item in wrong] == [TargetError.exit_code] * 2
    assert 'did you mean "rpi4-int8"' in wrong[0].hint
    assert checked.targets == ("rpi4-fp32",)


def test_everything_that_a_plan_lacks(folder: Path, look: Look) -> None:
    (folder / "edgec.toml").write_text('[model]\npath = "net.onnx"\n')
    checked = look("rpi4-int8", "x86-64-int8")
    lacking = [item.what for item in of_kind(checked, "project")]
    assert [text.partition(" is named")[0] for text in lacking[:2]] == ["no evaluation data", "no calibration data"]
    assert len(lacking) == 3  # calibration is told for each target that needs it
    assert checked.targets == ("rpi4-int8", "x86-64-int8")


def test_no_target_is_named(folder: Path, look: Look) -> None:
    from edgec.check.run import check

    (wrong,) = of_kind(check(folder, {}), "target")
    assert wrong.what == "no target is named"


def test_packages_that_are_missing(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: None if name == "tensorflow" else "1.0")
    checked = look("rpi4-int8", "rpi4-fp32")
    (missing,) = of_kind(checked, "toolchain")  # fp32 needs none of it
    assert missing.where == "rpi4-int8: model.tflite: backend tflite"
    assert "the artifact will be missing: int8 needs packages that are not installed: tensorflow" in missing.what
    assert missing.hint == "pip install 'edgec[tflite]'"
    assert missing.exit_code == BackendUnavailableError.exit_code
