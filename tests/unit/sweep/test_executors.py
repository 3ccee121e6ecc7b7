"""Executors: as many workers as memory allows; a cell that fails does not stop the others."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgec.build.room import JOB_MB, room_for
from edgec.errors import EdgecError, ProjectError, UsageError, WorkerError
from edgec.project.spec import Project
from edgec.sweep import dask_pool
from edgec.sweep.dask_pool import DaskPool, make_remotely, unfit
from edgec.sweep.environment import differences, environment_of
from edgec.sweep.keys import Keys
from edgec.sweep.making import Options, choose_executor, make_cells
from edgec.sweep.pool import LocalPool
from edgec.sweep.requests import CellRequest, WorkerRequirements
from edgec.sweep.store import CellStore
from edgec.sweep.variants import Cell, Levels, cells_of
from edgec.target.load import load_target

Small = tuple[Project, Path]


def cells_in(small_project: Small, levels: Levels, text: str = "") -> tuple[Cell, ...]:
    project, root = small_project
    (root / "targets").mkdir()
    (root / "targets" / "mine.toml").write_text(f'extends = "x86-64-int8"\n{text}\n[[emit]]\nbackend = "example"\n')
    cells, _ = cells_of(load_target("mine", root), project, levels)
    return cells


def request_of(small_project: Small, out: Path) -> CellRequest:
    (cell,) = cells_in(small_project, Levels(precision=("fp32",)))
    project, root = small_project
    return CellRequest(
        key="0" * 64, label="a cell", target=cell.plan.target, project=project, root=root, out=out, working_folder=root,
        threads=1, inputs={},
    )  # fmt: skip


def test_requests_travel_as_json(small_project: Small, tmp_path: Path) -> None:
    request = request_of(small_project, tmp_path).model_copy(update={"inputs": {tmp_path / "x": "0" * 64}})
    assert CellRequest.model_validate_json(request.model_dump_json()) == request
    assert request.log.is_relative_to(tmp_path / ".work" / "sweep" / "hosts")


def test_failures_are_reported_for_each_cell(small_project: Small, tmp_path: Path) -> None:
    cells = cells_in(small_project, Levels(precision=("fp32", "int8")))
    root, out = small_project[1], tmp_path / "out"
    keys, store = Keys(root, 1), CellStore(out, root)
    keyed = [replace(cell, key=keys.key(cell.plan)) for cell in cells]
    steps: list[str] = []
    made = make_cells(keyed, LocalPool(2), store, keys, root=root, out=out, threads=1, progress=steps.append)
    assert not made.records
    assert set(made.failed) == {cell.key for cell in keyed}
    for error in made.failed.values():
        assert "a key runs no code" in error.what  # model.py, which cells do run
        assert Path(error.log).exists()
    assert steps[0] == "2 of 2 cells are to be made"
    assert sum("failed" in step for step in steps) == 2
    assert not list((out / ".work" / "sweep" / "cells").glob("*"))
    left = [
        path for path in (out / ".work" / "sweep" / "hosts").rglob("*") if path.name[0].isdigit() and "-" in path.name
    ]
    assert not left  # neither scratch folders nor the processes' own


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_files_that_change_while_a_cell_is_made(small_project: Small, tmp_path: Path, when: str) -> None:
    _, root = small_project
    cells = cells_in(small_project, Levels(precision=("fp32",)))
    np.savez(root / "evaluation.npz", x=np.eye(4, dtype=np.float32)[:, None])
    edit = "import pathlib\npathlib.Path(__file__).parent.joinpath('blocks.py').write_text('changed = 1')\n"
    (root / "model.py").write_text(
        f"{edit if when == 'meanwhile' else ''}import torch\nclass Net(torch.nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(4, 3)\n"
    )
    torch.save(torch.nn.Linear(4, 3).state_dict(), root / "model.pt")
    out = tmp_path / "out"
    keys, store = Keys(root, 1), CellStore(out, root)
    (cell,) = (replace(cell, key=keys.key(cell.plan)) for cell in cells)
    if when == "before":
        (root / "blocks.py").write_text("changed = 1")
    made = make_cells([cell], LocalPool(1), store, keys, root=root, out=out, threads=1, progress=lambda step: None)
    assert (made.failed[cell.key].where, made.failed[cell.key].hint) == ("blocks.py", "run the sweep again")
    assert isinstance(made.failed[cell.key], ProjectError)
    assert "the file changed while the cell was made" in made.failed[cell.key].what
    assert not store.folder(cell.key).exists()


def test_room() -> None:
    assert room_for(1, memory_mb=1) == 1
    assert room_for(1, memory_mb=JOB_MB) == 1
    assert room_for(10_000) == 1


def test_fewer_workers_when_memory_is_short(
    small_project: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_in(small_project, Levels())
    steps: list[str] = []
    choose_executor(Options(workers=3, memory_mb=JOB_MB), CellStore(tmp_path, tmp_path), cells, steps.append)
    assert steps == [f"1 of 3 workers: each may take {JOB_MB} MB, and {JOB_MB} MB are available"]
    steps.clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    choose_executor(Options(threads=2, memory_mb=1), CellStore(tmp_path, tmp_path), cells, steps.append)
    assert steps == [f"1 of 2 workers: each may take {JOB_MB} MB, and 1 MB are available"]


def test_times_are_not_taken_in_busy_workers(small_project: Small, tmp_path: Path) -> None:
    text = '[prune]\ngoal = "latency"\namount = 0.3\nwithout_training = true'
    cells, store = cells_in(small_project, Levels(), text), CellStore(tmp_path, tmp_path)
    for options in (Options(workers=2), Options(scheduler="tcp://127.0.0.1:1")):
        with pytest.raises(UsageError, match="other cells would disturb"):
            choose_executor(options, store, cells, print)
    assert isinstance(choose_executor(Options(), store, cells, print), LocalPool)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "tcp://host", "http://host:1", "tcp://host:port"])
def test_addresses(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not the address of a scheduler"):
        DaskPool(address, CellStore(tmp_path, tmp_path), ())


def test_no_scheduler(small_project: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT", 0.5)
    store = CellStore(tmp_path, tmp_path)
    request = request_of(small_project, tmp_path)
    with pytest.raises(WorkerError, match=r"127\.0\.0\.1:9: the scheduler cannot be reached"):
        DaskPool("tcp://127.0.0.1:9", store, ()).run([request], lambda *_: None, print)
    assert not list(store.lease("x").parent.iterdir())


def test_a_cluster_has_its_own_room(small_project: Small, tmp_path: Path) -> None:
    options = Options(scheduler="tcp://127.0.0.1:1", workers=2)
    with pytest.raises(UsageError, match="not to a cluster"):
        choose_executor(options, CellStore(tmp_path, tmp_path), cells_in(small_project, Levels()), print)


def test_other_environments_are_refused(small_project: Small, tmp_path: Path) -> None:
    own = dict(environment_of(("example",)))
    same = WorkerRequirements(environment=own, backends=("example",), lease=tmp_path / "lease")
    same.lease.touch()
    assert unfit(same) == ""
    assert "cannot read" in unfit(same.model_copy(update={"lease": tmp_path / "elsewhere"}))
    changed = own | {"torch": "1.0", "code of edgec": "0" * 64}
    code = own["code of edgec"][:12]
    assert differences(changed, ("example",)) == (
        f"code of edgec ({code}, not 000000000000)",
        f"torch ({own['torch']}, not 1.0)",
    )
    request = request_of(small_project, tmp_path)
    with pytest.raises(WorkerError, match="its environment differs: code of edgec"):
        make_remotely(request, same.model_copy(update={"environment": changed}))
    assert isinstance(make_remotely(request, same), EdgecError)  # the model of the request is wrong
