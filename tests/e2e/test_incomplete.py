"""One artifact that cannot be made, or is wrong, does not keep the others from being built; and it is never silent."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgec
from edgec.bundle.check import check_digests
from edgec.bundle.manifest import Manifest
from edgec.errors import (
    BackendUnavailableError,
    GateError,
    IncompleteError,
    ToolchainError,
    UnsupportedError,
    UsageError,
)

from .command import edgec as command
from .command import edgec_here as command_here

NET = """
from torch import nn

def chain():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))

def gated():
    return nn.Sequential(chain(), nn.Sigmoid())
"""
TOML = """
[model]
path = "net.py:{net}"
[[model.inputs]]
name = "x"
shape = [1, 3, 8, 8]
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
metric = "sqnr"
[build]
effort = "fast"
"""
BACKENDS = ("two-runtimes", "speechless", "not-installed")
INSISTS = 'runtimes = ["acme-new", "acme-old"]'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A net that the example backend takes, with the third party's backends installed."""
    (tmp_path / "net.py").write_text(NET)
    use(tmp_path, "chain")
    rng = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", x=rng.normal(size=(16, 3, 8, 8)).astype(np.float32))
    packages = tmp_path / "packages"
    info = packages / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("acme_backends.py"), packages)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    rows = [f"{name} = acme_backends:{name.upper().replace('-', '_')}" for name in BACKENDS]
    (info / "entry_points.txt").write_text("\n".join(["[edgec.backends]", *rows]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(packages), os.environ.get("PYTHONPATH")))))
    monkeypatch.syspath_prepend(packages)
    (tmp_path / "targets").mkdir()
    return tmp_path


def target(project: Path, name: str, *backends: str, precision: str = "fp32", runtimes: str = "") -> str:
    emits = "".join(f'[[emit]]\nbackend = "{backend}"\n' for backend in backends)
    text = f'device = "x86-64-vnni"\nprecision = "{precision}"\n{emits}{runtimes}\n'
    (project / "targets" / f"{name}.toml").write_text(text)
    return name


def use(project: Path, net: str) -> None:
    (project / "edgec.toml").write_text(TOML.format(net=net))


def build(project: Path, name: str, **more: Any) -> tuple[edgec.Bundle, list[str]]:
    steps: list[str] = []
    return edgec.build(target=name, project=project, progress=steps.append, **more), steps


def manifest_of(project: Path, name: str) -> Manifest:
    return check_digests(project / "dist" / name)


def test_the_others_are_built_and_what_is_missing_is_told_everywhere(project: Path) -> None:
    use(project, "gated")
    target(project, "mixed", "onnxruntime", "example")
    run = command_here("build", "--target", "mixed", "--check-reproducible", cwd=project)
    assert run.code == IncompleteError.exit_code, run.errors
    assert "mixed: reproducible: " in run.errors
    assert "NOT BUILT: model.npz: 1: Sigmoid() is not supported" in run.errors
    assert "this backend takes chains of" in run.errors
    assert str(project / "dist" / ".work" / "mixed" / "build.log") in run.errors
    assert "mixed: done in" in run.errors
    assert "INCOMPLETE bundle" in run.errors
    assert "dist/mixed: the bundle lacks model.npz (not built: 1: Sigmoid() is not supported)" in run.errors
    assert "Traceback" not in run.errors
    assert "\x1b" not in run.errors
    manifest = manifest_of(project, "mixed")
    assert not manifest.complete
    assert [item.artifact.file for item in manifest.artifacts] == ["model.onnx"]
    assert [(gap.subject, gap.state) for gap in manifest.missing] == [("model.npz", "not built")]
    assert "model.npz NOT BUILT" in (project / "dist" / "mixed" / "report.html").read_text()

    run = command_here("verify", "dist/mixed", "--digests", cwd=project)
    assert run.code == IncompleteError.exit_code
    assert "lacks model.npz" in run.output
    assert command_here("verify", "dist/mixed", "--allow-incomplete", cwd=project).code == 0
    assert command_here("keygen", "--out", "fleet", cwd=project).code == 0
    for verb in (("sign", "dist/mixed", "--key", "fleet.key"), ("publish", "dist", "place")):
        refused = command_here(*verb, cwd=project)
        assert refused.code == IncompleteError.exit_code
        assert "--allow-incomplete" in refused.errors
        assert command_here(*verb, "--allow-incomplete", cwd=project).code == 0

    before = (project / "dist" / "mixed" / "manifest.json").read_bytes()
    run = command_here("build", "--target", "mixed", "--all-or-nothing", cwd=project)
    assert run.code == UnsupportedError.exit_code
    assert "edgec: error: model.npz: 1: Sigmoid() is not supported" in run.errors
    assert (project / "dist" / "mixed" / "manifest.json").read_bytes() == before
    run = command_here("build", "--target", "mixed", "--all-or-nothing", "--keep-going", cwd=project)
    assert run.code == UsageError.exit_code


def test_what_cannot_be_lowered_fails_before_samples_are_looked_at(project: Path) -> None:
    use(project, "gated")
    target(project, "alone", "example", precision="int8")
    steps: list[str] = []
    with pytest.raises(UnsupportedError, match="Sigmoid") as caught:
        edgec.build(target="alone", project=project, settings={"build.effort": "balanced"}, progress=steps.append)
    assert caught.value.where == "model.npz: 1"
    assert caught.value.log
    assert [step for step in steps if step.startswith("model.npz: ")] == [
        "model.npz: load model",
        "model.npz: lower",
        "model.npz: cannot be made: Sigmoid() is not supported",
    ]
    assert not (project / "dist" / "alone").exists()


def test_a_toolchain_that_explains_nothing_is_explained(project: Path) -> None:
    target(project, "mixed", "example", "not-installed", "speechless")
    with pytest.raises(IncompleteError, match=r"not installed: acme-compiler.*could not do this step") as caught:
        build(project, "mixed")
    assert "KeyError" in caught.value.what
    assert [gap.state for gap in manifest_of(project, "mixed").missing] == ["not built"] * 2
    run = command_here("build", "--target", target(project, "alone", "speechless"), cwd=project)
    assert run.code == ToolchainError.exit_code
    assert re.search(r"model\.speechless \(speechless\), step lower: the toolchain could not do this step", run.errors)
    assert "  | KeyError: 3" in run.errors  # the end of its log
    with pytest.raises(BackendUnavailableError):
        build(project, target(project, "missing", "not-installed"))


def test_a_runtime_that_is_wrong_where_another_is_right_is_left_out(project: Path) -> None:
    target(project, "both", "two-runtimes", precision="int8")
    run = command_here("build", "--target", "both", cwd=project)
    assert run.code == 0, run.errors
    assert "model.npz in acme-old RUNTIME LEFT OUT: its outputs are at" in run.errors
    assert run.errors.count("compare acme-old with acme-new, op by op") == 1
    manifest = manifest_of(project, "both")
    assert manifest.complete
    (gap,) = [item for item in manifest.coverage if item.state == "runtime left out"]
    assert gap.subject == "model.npz in acme-old"
    assert 'they differ from linear "4"' in gap.reason
    assert [(item.runtime, item.judged) for item in manifest.accuracy] == [("acme-old", False), ("acme-new", True)]
    assert {gate.runtime for gate in manifest.gates} == {"acme-new"}
    assert [item.state for item in manifest.artifacts[0].rungs] == ["met"]


def test_missed_gates_of_one_artifact_and_of_all(project: Path) -> None:
    name = target(project, "insists", "onnxruntime", "two-runtimes", precision="int8", runtimes=INSISTS)
    run = command_here("build", "--target", name, cwd=project)
    assert run.code == IncompleteError.exit_code, run.errors
    assert re.search(
        r"model\.npz +mixed-precision +skipped .*no recipe mends what is wrong in float32 as well", run.errors
    )
    assert "GATES MISSED: model.npz: 1 gate not met" in run.errors
    assert "model.npz in acme-old: min_sqnr_db 20 (default): " in run.errors
    manifest = manifest_of(project, name)
    assert [item.artifact.file for item in manifest.artifacts] == ["model.onnx"]
    assert {item.artifact for item in (*manifest.accuracy, *manifest.gates)} == {"model.onnx"}
    (gap,) = manifest.missing
    assert gap.state == "gates missed"
    assert gap.reason.startswith("acme-old: min_sqnr_db 20 (default): ")
    assert not (project / "dist" / name / "model.npz").exists()
    with pytest.raises(GateError, match=r"model\.npz in acme-old"):
        build(project, name, all_or_nothing=True)
    assert not (project / "dist" / name).exists()

    run = command_here(
        "build", "--target", target(project, "none", "example", "speechless"), "--min-sqnr", "500", cwd=project
    )
    assert run.code == ToolchainError.exit_code
    assert "GATES MISSED: model.npz: 1 gate not met" in run.errors
    assert not (project / "dist" / "none").exists()


def test_other_targets_are_built_and_the_one_without_a_bundle_decides_the_exit_code(project: Path) -> None:
    names = [target(project, "a-part", "example", "speechless"), target(project, "b-none", "speechless")]
    names.append(target(project, "c-all", "example"))
    run = command("build", *(part for name in names for part in ("-t", name)), "--depfile", "build.d", cwd=project)
    assert run.code == ToolchainError.exit_code, run.errors
    assert "edgec: error: " + str(project / "dist" / "a-part") in run.errors
    assert [manifest_of(project, name).complete for name in ("a-part", "c-all")] == [False, True]
    rules = (project / "build.d").read_text()
    assert "a-part/manifest.json" in rules
    assert "b-none" not in rules
