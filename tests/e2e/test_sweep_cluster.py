"""`edgec sweep --scheduler`: a real Dask scheduler and its workers, killed and started anew."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgec.errors import StoppedError, WorkerError
from edgec.project.spec import Project
from edgec.sweep import dask_pool
from edgec.sweep.dask_pool import DaskPool
from edgec.sweep.requests import CellRequest
from edgec.sweep.store import CellStore
from edgec.target.load import load_target

from .command import edgec, environment, start, workers
from .sweeping import CELLS, SWEEP, cells, counts, eventually, finished

ROOT = Path(__file__).parents[2]


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


@pytest.mark.slow
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
    assert "are submitted again" in run.errors
    assert "Traceback" not in run.errors
    assert cells(swept_project) == cells(undisturbed)
    assert not list((swept_project / "dist" / ".work" / "sweep" / "leases").iterdir())


@pytest.mark.slow
def test_a_cluster_without_workers_is_given_up(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_pool, "PATIENCE", 4.0)
    cluster.scheduler()
    first = cluster.worker()
    out, key = tmp_path / "out", "0" * 64
    store, steps = CellStore(out, tmp_path), list[str]()
    request = CellRequest(
        key=key, label="a cell", target=load_target("x86-64-int8", tmp_path).target, project=Project(), root=tmp_path,
        out=out, working_folder=tmp_path, threads=1, inputs={},
    )  # fmt: skip
    pool = DaskPool(cluster.address, store, ("example",))
    with ThreadPoolExecutor(1) as thread, store.lock(key):  # the process that makes the cell waits
        run = thread.submit(pool.run, [request], lambda *_: None, steps.append)
        assert eventually(lambda: workers(first.pid)), "the cell begins"
        first.kill()
        with pytest.raises(WorkerError, match="no workers for 4 s"):
            run.result(60)
    assert [step for step in steps if "no workers are left" in step]
    assert not list(store.lease("x").parent.iterdir())


@pytest.mark.slow
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


LEVELS = ("--precision", "fp32,fp16,int8", "--method", "minmax,moving-average,percentile,mse")
"""Six cells of a target."""


@pytest.mark.slow
def test_24_cells_survive_a_killed_worker_and_a_new_scheduler(project: Path, tmp_path: Path, cluster: Cluster) -> None:
    device = (ROOT / "targets" / "devices" / "x86-64-vnni.toml").read_text()
    (project / "targets" / "devices").mkdir(parents=True)
    for number in range(4):  # devices that differ in name only: no cell is another's
        text = re.sub(r"(?m)^name = .*$", f'name = "many-{number}"', device)
        (project / "targets" / "devices" / f"many-{number}.toml").write_text(text)
        text = f'device = "many-{number}"\nprecision = "int8"\n[[emit]]\nbackend = "onnxruntime"\n[bench]\nruns = 20\n'
        (project / "targets" / f"many-{number}.toml").write_text(text)
    arguments = ("sweep", "--target", "many-*", *LEVELS, *SWEEP[-6:])
    quiet = shutil.copytree(project, tmp_path / "quiet")
    run = edgec(*arguments, "--workers", "2", cwd=quiet)
    assert counts(run.errors) == (24, 0), run.errors

    scheduler = cluster.scheduler()
    first, second = cluster.worker(), cluster.worker()
    process = start(*arguments, "--scheduler", cluster.address, cwd=project)
    assert eventually(lambda: made(project) >= 4, 120), "some cells are made"
    assert eventually(lambda: workers(first.pid)), "the first worker is in mid-cell"
    first.kill()
    cluster.worker()
    assert eventually(lambda: made(project) >= 12, 120), "half of the cells are made"
    scheduler.kill()
    second.kill()
    scheduler.wait()
    cluster.scheduler()
    cluster.worker()
    cluster.worker()
    run = finished(process)
    assert run.code == 0, run.errors
    assert counts(run.errors) == (24, 0)
    assert made(project) == 24
    assert cells(project) == cells(quiet)


def made(project: Path) -> int:
    """Cells that are finished."""
    return len({Path(name).parts[0] for name in cells(project)})
