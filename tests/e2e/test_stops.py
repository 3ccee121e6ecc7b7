"""A build that is stopped at any of its file operations leaves the older bundle, or a whole new one with its lock."""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from example_project import PROJECT, write_example_project

from edgec.bundle.check import check_digests
from edgec.errors import StoppedError

from .command import EDGEC, edgec, environment, workers
from .test_faults import eventually, processes_of, wait_for

FOREVER = """
import torch
class Forever(torch.nn.Module):
    def forward(self, x):
        while bool((x == x).all()):
            x = x + 1
        return x
torch.jit.script(Forever()).save("forever.pt")
"""
BUILD = ("build", "--target", "small", "-j", "1")
PROGRAM = Path(__file__).with_name("stopping.py")
PROMPTLY = 20.0
"""Seconds that a stop may take here, where what it stops goes on for ever; less than one on an idle machine."""
SAMPLE = 6
"""Operations that are stopped at in the default run."""


@dataclass(frozen=True)
class Stopped:
    """How a build of `stopping.py` ended."""

    stop: str
    root: Path
    code: int
    at: str
    count: int
    seconds: float
    output: str


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a bundle and a lock; for reading only."""
    root = tmp_path_factory.mktemp("stops") / "older"
    write_example_project(root)
    run = edgec(*BUILD, cwd=root)
    assert run.code == 0, run.errors
    return root


@pytest.fixture
def root(older: Path, tmp_path: Path) -> Path:
    return shutil.copytree(older, tmp_path / "project")


def stopped_builds(older: Path, copies: Path, *stops: str) -> Iterator[Stopped]:
    command = [sys.executable, str(PROGRAM), str(older), str(copies), *stops]
    with subprocess.Popen(
        command, env=environment() | {"PYTHONHASHSEED": "0"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            content = json.loads(line)
            yield Stopped(**content | {"root": Path(content["root"])})
    assert process.returncode == 0


def left_over(root: Path) -> list[str]:
    """Paths in a project, its cache and its folder of temporary files that no build leaves."""
    found = [path for path in root.iterdir() if path.name.startswith(".")]
    found += (root / "tmp").glob("*")
    found += [path for path in (root / "dist").iterdir() if path.name not in ("small", ".work")]
    found += [path for path in (root / "dist" / ".work").iterdir() if path.name != "small"]
    found += [path for path in (root / "dist" / ".work" / "small").iterdir() if path.name != "build.log"]
    cache = [path for path in (root / "cache").glob("*") if path.suffix != ".json"]
    found += [path for path in cache if path.suffix != ".files" or not path.with_suffix(".json").exists()]
    return [str(path.relative_to(root)) for path in found]


def faults(run: Stopped, older: Path) -> list[str]:
    """What is not as it must be after a build that was stopped, or was over by then."""
    name = Path("dist", "small", "manifest.json")
    old, new = ((folder / name).read_bytes() for folder in (older, run.root))
    locked = [json.loads((folder / "edgec.lock").read_text()) for folder in (older, run.root)]
    check_digests(run.root / "dist" / "small")
    expected = StoppedError.exit_code if run.at else 0
    found = [f"left over: {path}" for path in left_over(run.root)]
    found += ["exit code"] * (run.code != expected)
    found += ["a new bundle without its lock, or a lock without its bundle"] * (
        (old == new) != (locked[0] == locked[1])
    )
    found += ["not built"] * (not run.at and old == new)
    found += ["traceback"] * ("Traceback" in run.output)
    found += ["running"] * (not eventually(lambda: not processes_of(run.root)))
    return [f"{run.stop} ({run.at}): {what}, exit code {run.code}: {run.output[-2000:]}" for what in found]


def stops(count: int, share: int) -> list[str]:
    every = [f"{number}:{when}" for number in range(1, count + 1) for when in ("before", "after")]
    return every[:: max(1, len(every) // share)]


@pytest.mark.parametrize("share", [SAMPLE, pytest.param(1 << 20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_stop_at_each_file_operation(older: Path, tmp_path: Path, share: int) -> None:
    (whole,) = stopped_builds(older, tmp_path, "1000000:before")
    assert faults(whole, older) == []
    seen, wrong = 0, list[str]()
    for run in stopped_builds(older, tmp_path, *stops(whole.count, share)):
        seen += bool(run.at)
        wrong += faults(run, older)
        shutil.rmtree(run.root)
    print(f"{whole.count} file operations; builds stopped before or after one: {seen}")
    assert wrong == []
    assert seen >= min(share, whole.count)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM, signal.SIGHUP])
def test_a_stop_is_prompt_while_a_worker_does_not_listen(root: Path, number: signal.Signals, own_cache: Path) -> None:
    process = subprocess.Popen(
        [str(EDGEC), *BUILD], cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    (root / "dist" / "small" / "manifest.json").unlink()  # so that it is built
    wait_for(process, "model.npz: lower")
    running = workers(process.pid)
    for worker in running:
        os.kill(worker, signal.SIGSTOP)  # as deaf as a native loop
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < PROMPTLY
    assert process.returncode == StoppedError.exit_code, errors
    by = "" if number == signal.SIGINT else f" by {number.name}"
    assert f"edgec: error: stopped{by}; no unfinished bundle was left" in errors
    assert running
    assert eventually(lambda: not processes_of(root))
    assert list((root / "dist" / ".work").glob("*/*-*")) == []


def test_a_stop_is_prompt_in_a_native_loop_of_the_model(root: Path, own_cache: Path) -> None:
    (root / "forever.py").write_text(FOREVER)
    subprocess.run([sys.executable, "forever.py"], cwd=root, check=True)
    (root / "edgec.toml").write_text(PROJECT.replace("net.py:net", "forever.pt"))
    process = subprocess.Popen(
        [str(EDGEC), *BUILD], cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(process, "load forever.pt")
    time.sleep(5)  # until it runs
    began = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - began < PROMPTLY
    assert process.returncode == StoppedError.exit_code, errors
    assert "stopped in native code" in errors
    assert eventually(lambda: not processes_of(root))
    assert list((root / "dist" / ".work").glob("*/*-*")) == []


def test_a_terminal_that_closes_stops_a_build(root: Path, own_cache: Path) -> None:
    (root / "dist" / "small" / "manifest.json").unlink()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [str(EDGEC), *BUILD], cwd=root, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True, preexec_fn=lambda: os.close(os.open(os.ttyname(theirs), os.O_RDWR)),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"model.npz" not in seen:
        seen += os.read(ours, 4096)
    os.close(ours)  # the kernel sends SIGHUP
    assert process.wait(timeout=60) == StoppedError.exit_code
    assert eventually(lambda: not processes_of(root))
    assert list((root / "dist" / ".work").glob("*/*-*")) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_random_stops_under_load(older: Path, tmp_path: Path) -> None:
    """Ctrl-C at 200 moments, while other processes keep all cores busy."""
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    generator, wrong, stopped = random.Random(0), list[str](), 0
    try:
        began = time.monotonic()
        (whole,) = stopped_builds(older, tmp_path, "1000000:before")
        assert faults(whole, older) == []
        moments = [f"{generator.uniform(0, whole.seconds):.3f}:seconds" for _ in range(200)]
        for run in stopped_builds(older, tmp_path, *moments):
            stopped += run.code == StoppedError.exit_code
            wrong += faults(run, older)
            shutil.rmtree(run.root)
    finally:
        for process in load:
            process.kill()
            process.wait()
    print(f"{stopped} builds of 200 were stopped, in {time.monotonic() - began:.0f} s")
    assert wrong == []
    assert stopped > 100
