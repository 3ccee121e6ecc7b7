"""`edgec sweep` of the digits: every cell once, whatever is stopped or killed, here and on a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from edgec.errors import GateError, StoppedError, TargetError, UsageError, WorkerError
from edgec.sweep import dask_pool
from edgec.sweep.cell import CellRequest
from edgec.sweep.dask_pool import DaskPool
from edgec.sweep.environment import environment as environment_of
from edgec.sweep.store import CellStore
from edgec.verify.tradeoffs import Sweep

from .command import Run, edgec, environment, start, workers

SWEEP = (
    "sweep", "--target", "one", "--target", "two", "--precision", "fp32,int8", "--method", "minmax",
    "--effort", "fast", "--evaluate-samples", "48", "--calibration-samples", "32",
)  # fmt: skip
CELLS = 4
Cells = dict[str, bytes]


def with_targets(project: Path) -> Path:
    """The digits with two targets, of ONNX Runtime alone."""
    (project / "targets").mkdir()
    for name, base in (("one", "x86-64-vnni-int8"), ("two", "x86-64-int8")):
        text = f'extends = "{base}"\n[[emit]]\nbackend = "onnxruntime"\n[bench]\nruns = 20\n'
        (project / "targets" / f"{name}.toml").write_text(text)
    return project


@pytest.fixture
def swept_project(project: Path) -> Path:
    return with_targets(project)


@pytest.fixture(scope="session")
def undisturbed(trained: Path) -> Path:
    """A project whose sweep nothing has disturbed; for reading only."""
    folder = trained.parent / "swept"
    with filelock.FileLock(trained.parent / "swept.lock"):
        if not folder.exists():
            private = trained.parent / "sweeping"
            with_targets(shutil.copytree(trained, private))
            run = edgec(*SWEEP, "--workers", "2", cwd=private)
            assert run.code == 0, run.errors
            private.rename(folder)
    return folder


def cells(project: Path) -> Cells:
    """Every file of every cell."""
    base = project / "dist" / ".work" / "sweep" / "cells"
    return {str(file.relative_to(base)): file.read_bytes() for file in sorted(base.rglob("*")) if file.is_file()}


def counts(errors: str) -> tuple[int, int]:
    """Cells computed, and found."""
    (found,) = re.findall(r"(\d+) cells computed, (\d+) cached", errors)
    return int(found[0]), int(found[1])


def eventually(condition: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):  # what is looked at may end meanwhile
            if condition():
                return True
        time.sleep(0.05)
    return False


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    told = []
    for line in process.stderr:
        if words in line:
            return
        told.append(line)
    raise AssertionError(f"the sweep ended before it said {words!r}, but: {''.join(told)}")


def finished(process: subprocess.Popen[str]) -> Run:
    output, errors = process.communicate(timeout=200)
    return Run(process.returncode, output, errors)


def processes_of(project: Path) -> list[str]:
    """Command lines of running processes whose work folder is the project."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == project:
                found.append((entry / "cmdline").read_text())
    return found


def test_stopped_resumed_twice_at_once_and_killed(undisturbed: Path, swept_project: Path) -> None:
    process = start(*SWEEP, "--workers", "2", cwd=swept_project)
    wait_for(process, "model.onnx: emit")
    process.send_signal(signal.SIGINT)
    assert finished(process).code == StoppedError.exit_code
    assert eventually(lambda: not processes_of(swept_project), 10)
    assert not (swept_project / "dist" / "sweep.json").exists()

    pair = [start(*SWEEP, "--workers", "1", cwd=swept_project)]
    wait_for(pair[0], "model.onnx: emit")
    pair.append(start(*SWEEP, "--workers", "1", cwd=swept_project))  # not before: it might take every cell
    os.kill(workers(pair[0].pid)[0], signal.SIGKILL)
    wait_for(pair[0], "begin again")
    for run in map(finished, pair):
        assert run.code == 0, run.errors
        assert sum(counts(run.errors)) == CELLS
    assert cells(swept_project) == cells(undisturbed)
    assert not list((swept_project / "dist" / ".work" / "sweep" / "hosts").glob("*/*/[0-9]*-*"))


def test_from_the_store_extended_picked_and_built(undisturbed: Path, tmp_path: Path) -> None:
    project = shutil.copytree(undisturbed, tmp_path / "project")
    began = time.monotonic()
    rule = "accuracy>=0.9, min size"
    again = edgec(*SWEEP, "--pick", rule, "--save", "smallest", cwd=project)
    assert time.monotonic() - began < 3
    assert again.code == 0, again.errors
    assert counts(again.errors) == (0, CELLS)
    assert "time fp32" not in again.errors  # times are kept too

    found = Sweep.model_validate_json((project / "dist" / "sweep.json").read_text())
    assert [(item.target, item.precision) for item in found.points] == [
        ("one", "fp32"), ("one", "int8"), ("two", "fp32"), ("two", "int8"),
    ]  # fmt: skip
    for point in found.points:
        assert point.accuracy is not None
        assert point.accuracy > 0.9
        assert point.pace is not None
        assert (point.pace.ratio == 1) == (point.precision == "fp32")
        assert point.memory_mb is not None
        assert 20 < point.memory_mb < 1000
    sizes = [point.size_bytes for point in found.points]
    (chosen,) = [point for point in found.points if point.chosen]
    assert chosen.size_bytes == min(sizes)
    assert any(point.front for point in found.points)
    assert len(again.output.splitlines()) == 2 + CELLS  # a Markdown table
    assert (project / "dist" / "sweep.html").read_text().count("<circle") == 2 * CELLS

    extended = edgec("sweep", "--target", "one", "--precision", "fp16,int8", *SWEEP[7:], "--json", cwd=project)
    assert extended.code == 0, extended.errors
    assert counts(extended.errors) == (1, 2)  # fp32 is there to be timed against
    assert [item["precision"] for item in json.loads(extended.output)["points"]] == ["fp16", "int8"]

    built = edgec("build", "--target", "smallest", "--effort", "fast", *SWEEP[-4:], cwd=project)
    assert built.code == 0, built.errors
    manifest = json.loads((project / "dist" / "smallest" / "manifest.json").read_text())
    assert [item["sha256"] for item in manifest["artifacts"]] == [chosen.sha256]
    assert counts(edgec(*SWEEP, cwd=project).errors) == (0, CELLS)  # bundles are no part of the project

    unmet = edgec(*SWEEP, "--pick", "size<=1, max accuracy", cwd=project)
    assert unmet.code == GateError.exit_code
    assert f"the best is {min(sizes) / 1024:.4g}" in unmet.errors
    assert len(unmet.output.splitlines()) == 2 + CELLS  # the table is shown all the same


def test_a_cell_that_fails_is_told_and_the_others_are_made(swept_project: Path) -> None:
    metric = (
        "import pathlib\n"
        "def score(outputs, labels):\n"
        "    output = outputs['output_0'] if 'output_0' in outputs else next(iter(outputs.values()))\n"
        "    limit = float((pathlib.Path(__file__).parent / 'limit.txt').read_text())\n"
        "    assert output.max() < limit, 'beyond the limit'\n"
        "    return (output.argmax(-1).reshape(-1) == labels).astype(float)\n"
    )
    (swept_project / "metric.py").write_text(metric)
    (swept_project / "limit.txt").write_text("0")
    arguments = (
        "sweep",
        "-t",
        "one",
        "--precision",
        "fp32",
        *SWEEP[-4:],
        "--metric",
        str(swept_project / "metric.py:score"),
    )
    failed = edgec(*arguments, cwd=swept_project)
    assert failed.code != 0
    assert "beyond the limit" in failed.errors
    assert "Traceback" not in failed.errors
    told = json.loads((swept_project / "dist" / "sweep.json").read_text())
    assert [item["possible"] for item in told["unmade"]] == [True]
    assert "beyond the limit" in told["unmade"][0]["reason"]

    (swept_project / "limit.txt").write_text("1e9")
    assert counts(edgec(*arguments, cwd=swept_project).errors) == (1, 0)
    (swept_project / "limit.txt").write_text("1e10")  # edgec.toml does not name this file, but the metric reads it
    assert counts(edgec(*arguments, cwd=swept_project).errors) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        (("--target", "on"), TargetError, 'no target is called "on"'),
        (("--target", "one", "--precision", "int9"), UsageError, '"int9"'),
        (("--target", "one", "--method", "minmx"), UsageError, 'did you mean "minmax"'),
        (("--target", "one", "--prune", "0,1.5"), UsageError, '"1.5" is no share'),
        (("--target", "one", "--prune", "0,,1"), UsageError, "empty value"),
        (("--target", "one", "--pick", "accuracy>0.9"), UsageError, "no aim"),
        (("--target", "one", "--save", "x"), UsageError, "--save without --pick"),
        (("--target", "one", "--pick", "min size", "--save", "two"), TargetError, "already"),
        (("--target", "one", "--scheduler", "localhost"), UsageError, "is no address of a scheduler"),
    ],
)
def test_wrong_words_are_told_before_anything_runs(
    swept_project: Path, arguments: tuple[str, ...], error: type[Exception], told: str
) -> None:
    run = edgec("sweep", *arguments, cwd=swept_project)
    assert run.code == error.exit_code  # type: ignore[attr-defined]
    assert told in run.errors
    assert "Traceback" not in run.errors
    assert not (swept_project / "dist").exists()


class Cluster:
    """A Dask scheduler and its workers, as a user would start them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"dask-{len(self._processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments], cwd=self._folder, env=environment(), stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen[bytes]:
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny")

    def stop(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    found = Cluster(folder)
    yield found
    found.stop()


def test_a_cluster_loses_a_worker_and_its_scheduler(undisturbed: Path, swept_project: Path, cluster: Cluster) -> None:
    scheduler = cluster.scheduler()
    first, second = cluster.worker(), cluster.worker()
    process = start(*SWEEP, "--scheduler", cluster.address, cwd=swept_project)
    assert eventually(lambda: workers(first.pid)), "a cell begins"
    first.kill()  # in mid-cell, which the other worker makes again
    assert eventually(lambda: cells(swept_project)), "a cell is made"
    assert eventually(lambda: workers(second.pid)), "another begins"
    scheduler.kill()
    second.kill()  # workers end with their scheduler
    scheduler.wait()
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    run = finished(process)
    assert run.code == 0, run.errors
    assert counts(run.errors) == (CELLS, 0)
    assert "ask again for" in run.errors
    assert "Traceback" not in run.errors
    assert cells(swept_project) == cells(undisturbed)
    assert not list((swept_project / "dist" / ".work" / "sweep" / "leases").iterdir())


def test_a_cluster_without_workers_is_given_up(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_pool, "PATIENCE", 4.0)
    cluster.scheduler()
    first = cluster.worker()
    out, key = tmp_path / "out", "0" * 64
    store, told = CellStore(out, tmp_path), list[str]()
    folders = {"root": str(tmp_path), "out": str(out), "cwd": str(tmp_path)}
    request = CellRequest(key, "a cell", {"key": key, "threads": 1, **folders})
    pool = DaskPool(cluster.address, store, environment_of(("example",)), ("example",))
    with ThreadPoolExecutor(1) as thread, store.lock(key):  # whoever makes the cell waits
        run = thread.submit(pool.run, [request], lambda *_: None, told.append)
        assert eventually(lambda: workers(first.pid)), "the cell begins"
        first.kill()
        with pytest.raises(WorkerError, match="no workers for 4 s"):
            run.result(60)
    assert [step for step in told if "no workers are left" in step]
    assert not list(store.lease("x").parent.iterdir())


def test_stopping_a_sweep_ends_its_cells_on_the_cluster(swept_project: Path, cluster: Cluster) -> None:
    cluster.scheduler()
    worker = cluster.worker()
    process = start(*SWEEP, "--scheduler", cluster.address, cwd=swept_project)
    assert eventually(lambda: workers(worker.pid)), "a cell begins"
    process.send_signal(signal.SIGINT)
    assert finished(process).code == StoppedError.exit_code
    assert eventually(lambda: not workers(worker.pid), 10)
    assert worker.poll() is None
    assert not cells(swept_project)
