"""edgec.toml and targets: everything that is wrong is told, and the rest is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.check.project import read_project
from edgec.check.records import exit_code
from edgec.errors import BackendUnavailableError, ProjectError, TargetError

from .conftest import TOML, Look, told


def test_nothing_is_wrong(look: Look) -> None:
    found = look("rpi4-int8", "x86-64-vnni-int8")
    assert not [item for item in found.findings if item.severity == "error"], found.findings
    assert not [item for item in found.findings if item.kind not in ("op",)], found.findings
    assert found.targets == ("rpi4-int8", "x86-64-vnni-int8")
    assert (found.exit_code, found.looked_at, found.samples_run) == (0, "", 60)


def test_every_key_that_is_wrong(folder: Path) -> None:
    text = TOML + 'metrik = "top1"\n[gates]\nmax_drop = "much"\nmin_agreement = 2\n[buildd]\nout = "o"\n'
    (folder / "edgec.toml").write_text(text)
    project, found = read_project(folder, {})
    assert [item.where.rpartition(":")[2] for item in found] == ["7", "9", "10", "11"]
    assert 'did you mean "metric"' in found[0].what
    assert "wrong type" in found[1].what
    assert exit_code(found) == ProjectError.exit_code
    assert project.evaluation is not None
    assert project.evaluation.data == "e.npz"
    assert project.gates.max_drop is None


def test_a_table_without_its_key(folder: Path) -> None:
    (folder / "edgec.toml").write_text('[model]\npath = "net.onnx"\n[calibration]\nsamples = 3\n')
    project, found = read_project(folder, {("build", "seed"): 7})
    assert [item.what for item in found] == ["calibration.data: missing; it has no default"]
    assert (project.model.path, project.calibration, project.build.seed) == ("net.onnx", None, 7)


def test_a_byte_order_mark_is_told_and_the_rest_is_read(folder: Path) -> None:
    (folder / "edgec.toml").write_bytes(b"\xef\xbb\xbf" + TOML.replace("\n", "\r\n").encode())
    project, found = read_project(folder, {})
    (mark,) = found
    assert "BOM" in mark.what
    assert "without BOM" in mark.hint or "not" in mark.hint
    assert project.model.path == "net.onnx"


def test_line_ends_of_windows_are_harmless(folder: Path) -> None:
    (folder / "edgec.toml").write_bytes(TOML.replace("\n", "\r\n").encode())
    project, found = read_project(folder, {})
    assert not found
    assert project.evaluation is not None


def test_no_toml_at_all(folder: Path) -> None:
    (folder / "edgec.toml").write_text("[model\n")
    project, found = read_project(folder, {("model", "path"): str(folder / "net.onnx")})
    assert [item.kind for item in found] == ["project"]
    assert "not valid TOML" in found[0].what
    assert project.model.path == "net.onnx"


def test_all_targets_are_looked_at(look: Look) -> None:
    found = look("rpi4-int9", "nothing-*", "rpi4-fp32")
    wrong = told(found, "target")
    assert [item.exit_code for item in wrong] == [TargetError.exit_code] * 2
    assert 'did you mean "rpi4-int8"' in wrong[0].hint
    assert found.targets == ("rpi4-fp32",)


def test_everything_that_a_plan_lacks(folder: Path, look: Look) -> None:
    (folder / "edgec.toml").write_text('[model]\npath = "net.onnx"\n')
    found = look("rpi4-int8", "x86-64-int8")
    lacking = [item.what for item in told(found, "project")]
    assert [text.partition(" is named")[0] for text in lacking[:2]] == ["no evaluation data", "no calibration data"]
    assert len(lacking) == 3  # calibration is told for each target that needs it
    assert found.targets == ("rpi4-int8", "x86-64-int8")


def test_no_target_is_named(folder: Path, look: Look) -> None:
    from edgec.check.run import check

    (wrong,) = told(check(folder, {}), "target")
    assert wrong.what == "no target is named"


def test_packages_that_are_missing(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgec.backends.registry.package_version", lambda name: None if name == "tensorflow" else "1.0")
    found = look("rpi4-int8", "rpi4-fp32")
    (missing,) = told(found, "toolchain")  # fp32 needs none of it
    assert missing.where == "rpi4-int8: model.tflite: backend tflite"
    assert "it will be missing: int8 needs packages that are not installed: tensorflow" in missing.what
    assert missing.hint == "pip install 'edgec[tflite]'"
    assert missing.exit_code == BackendUnavailableError.exit_code
