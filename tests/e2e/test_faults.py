"""Builds that are stopped, killed, run out of disk or meet each other: no half bundle, and the next build works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgec.bundle.check import check_digests
from edgec.errors import StoppedError, StorageError, WorkerError

from .command import EDGEC, edgec, environment, workers

pytestmark = pytest.mark.usefixtures("own_cache")

TARGET = "x86-64-vnni-int8"
BUILD = ("build", "--target", TARGET)


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(EDGEC), *BUILD, *arguments],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until a step is reported."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"the build ended before it said {words!r}")


def processes_of(project: Path) -> list[str]:
    """Command lines of running processes whose work folder is `project`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == project:
                found.append((entry / "cmdline").read_text())
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def scratch_folders(project: Path) -> list[str]:
    work = project / "dist" / ".work"
    return [item.name for item in (*work.glob("stage-*"), *(work / TARGET).glob("*-*")) if item.is_dir()]


STEPS = ["model.onnx: quantize-static", "model.fbgemm.pt: load in torch", "write the bundle"]


@pytest.mark.parametrize("step", [*(pytest.param(step, marks=pytest.mark.slow) for step in STEPS[:-1]), STEPS[-1]])
def test_ctrl_c(project: Path, step: str) -> None:
    process = start(project)
    wait_for(process, step)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode == 0 and step == "write the bundle":  # it was faster than the signal
        check_digests(project / "dist" / TARGET)
    else:
        assert not list(project.glob("dist/*/manifest.json"))
        assert process.returncode == StoppedError.exit_code, errors
    assert "Traceback" not in errors
    assert eventually(lambda: not processes_of(project))
    assert scratch_folders(project) == []


@pytest.mark.parametrize("step", STEPS[:2])
@pytest.mark.slow
def test_kill_then_build_again(project: Path, step: str) -> None:
    process = start(project)
    wait_for(process, step)
    process.kill()
    process.communicate(timeout=60)
    assert not list(project.glob("dist/*/manifest.json"))
    assert eventually(lambda: not processes_of(project))
    left = scratch_folders(project)
    assert left
    again = edgec(*BUILD, cwd=project)
    assert again.code == 0, again.errors
    check_digests(project / "dist" / TARGET)
    assert scratch_folders(project) == []


@pytest.mark.slow
def test_an_older_bundle_outlives_a_killed_build(project: Path) -> None:
    assert edgec(*BUILD, cwd=project).code == 0
    before = (project / "dist" / TARGET / "manifest.json").read_bytes()
    process = start(project, "--calibration-samples", "64")
    wait_for(process, "model.onnx: quantize-static")
    process.kill()
    process.communicate(timeout=60)
    assert (project / "dist" / TARGET / "manifest.json").read_bytes() == before
    check_digests(project / "dist" / TARGET)


@pytest.mark.slow
def test_two_builds_of_one_target(project: Path) -> None:
    both = [start(project), start(project)]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    manifest = check_digests(project / "dist" / TARGET)
    assert len(manifest.artifacts) == len(manifest.target.emit)
    assert scratch_folders(project) == []


@pytest.mark.slow
def test_same_inputs_give_the_same_bytes(project: Path, tmp_path: Path) -> None:
    for out in ("one", "two"):
        run = edgec(*BUILD, "--out", str(tmp_path / out), cwd=project)
        assert run.code == 0, run.errors
    one, two = (json.loads((tmp_path / out / TARGET / "manifest.json").read_text()) for out in ("one", "two"))
    assert one["files"] == two["files"]
    assert one == two


@pytest.fixture(params=["256k", pytest.param("600k", marks=pytest.mark.slow), "900k"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system that is too small for the build's scratch data or for its artifacts."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_disk_full(project: Path, small_disk: Path) -> None:
    run = edgec(*BUILD, "--out", str(small_disk / "dist"), cwd=project)
    assert run.code == StorageError.exit_code, run.errors
    assert "no space left" in run.errors.lower() or "the disk is full" in run.errors
    assert "Traceback" not in run.errors
    assert not list(small_disk.glob("dist/*/manifest.json"))
    assert not list(small_disk.glob("dist/.work/**/stage-*"))


def test_a_toolchain_that_is_killed_is_explained(project: Path) -> None:
    """As the kernel does when memory runs out."""
    process = start(project, "--all-or-nothing", "-j", "1")
    for _ in range(2):  # one that was killed once is tried again
        wait_for(process, "model.onnx: lower")
        (worker,) = workers(process.pid)
        os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == WorkerError.exit_code, errors
    assert "model.onnx (onnxruntime), step lower: the process was killed" in errors
    assert "memory" in errors
    assert "build.log" in errors
    assert not list(project.glob("dist/*/manifest.json"))
