"""Cross builds by Make, as a user's own Makefile does them: parallel, incremental, and exact about dependencies."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgec.bundle.check import check_digests

from .command import EDGEC, environment

MAKEFILE = """\
TARGETS = pi-fp32 server-fp32
include $(shell edgec makefile)
"""
TARGET = """\
device = "{device}"
precision = "fp32"
[[emit]]
backend = "onnxruntime"
"""


@pytest.fixture
def cross(project: Path) -> Path:
    """A project with its own Makefile and two targets of its own."""
    (project / "Makefile").write_text(MAKEFILE)
    (project / "targets").mkdir()
    for name, device in (("pi-fp32", "rpi4"), ("server-fp32", "x86-64")):
        (project / "targets" / f"{name}.toml").write_text(TARGET.format(device=device))
    return project


def make(project: Path, *arguments: str) -> str:
    """Run `make` and return what it printed; it must succeed."""
    path = f"{EDGEC.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["make", *arguments],
        cwd=project,
        env={**environment(), "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(output: str) -> set[str]:
    """Targets that a run of make built."""
    return {name for name in ("pi-fp32", "server-fp32") if f"--target {name}" in output}


def touch_later(path: Path) -> None:
    """Make `path` newer than everything that was built."""
    os.utime(path, (path.stat().st_atime + 3600, path.stat().st_mtime + 3600))


def test_parallel_then_nothing_then_what_depends(cross: Path) -> None:
    assert built(make(cross, "-j2", "dist")) == {"pi-fp32", "server-fp32"}
    for name in ("pi-fp32", "server-fp32"):
        check_digests(cross / "dist" / name)
    assert "Nothing to be done" in make(cross, "-j2", "dist")

    plan = make(cross, "dist", "-n", "-W", "targets/pi-fp32.toml")
    assert built(plan) == {"pi-fp32"}
    for shared in ("model.py", "model.pt", "evaluation.npz", "edgec.toml"):
        assert built(make(cross, "dist", "-n", "-W", shared)) == {"pi-fp32", "server-fp32"}, shared
    assert built(make(cross, "dist", "-n", "-W", "calibration.npz")) == set()  # float needs no calibration

    touch_later(cross / "targets" / "pi-fp32.toml")
    assert built(make(cross, "dist")) == {"pi-fp32"}


@pytest.mark.slow
def test_a_failed_target_is_built_again(cross: Path) -> None:
    text = (cross / "edgec.toml").read_text()
    (cross / "edgec.toml").write_text(text.replace("max_drop = 1.0", "min_sqnr_db = 1000.0"))
    with pytest.raises(AssertionError, match="gate"):
        make(cross, "dist", "TARGETS=pi-fp32")
    assert not list((cross / "dist").glob("*/manifest.json"))
    (cross / "edgec.toml").write_text(text)
    assert built(make(cross, "dist", "TARGETS=pi-fp32")) == {"pi-fp32"}


@pytest.mark.slow
def test_what_the_model_imports_is_a_dependency(cross: Path) -> None:
    (cross / "model.py").rename(cross / "blocks.py")
    (cross / "model.py").write_text("from blocks import DigitsCNN\n")
    make(cross, "dist", "TARGETS=pi-fp32")
    assert built(make(cross, "dist", "-n", "-W", "blocks.py", "TARGETS=pi-fp32")) == {"pi-fp32"}


@pytest.mark.slow
def test_an_incomplete_bundle_is_built_again(cross: Path) -> None:
    text = (cross / "targets" / "pi-fp32.toml").read_text()
    (cross / "targets" / "pi-fp32.toml").write_text(text + '[[emit]]\nbackend = "example"\n')  # refuses ReLU6
    for _ in range(2):
        with pytest.raises(AssertionError, match="ReLU6"):
            make(cross, "dist", "TARGETS=pi-fp32")
        manifest = check_digests(cross / "dist" / "pi-fp32")
        assert not manifest.complete
        assert [gap.subject for gap in manifest.missing] == ["model.npz"]


@pytest.mark.slow
def test_a_device_file_is_a_dependency(cross: Path) -> None:
    make(cross, "dist", "TARGETS=server-fp32")
    rules = (cross / "dist" / ".deps" / "server-fp32.d").read_text()
    assert "devices/x86-64.toml" in rules
    assert "devices/rpi4.toml" not in rules
    assert "targets/server-fp32.toml" in rules
