"""Who makes the cells: by what there is room for; a cell that fails does not stop the others."""

from __future__ import annotations

import json
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
from edgec.sweep.cell import CellRequest
from edgec.sweep.dask_pool import DaskPool, make_remotely, unfit
from edgec.sweep.environment import differences, environment_of
from edgec.sweep.keys import Keys
from edgec.sweep.making import Means, choose_crew, make_cells
from edgec.sweep.pool import LocalPool
from edgec.sweep.store import CellStore
from edgec.sweep.variants import Cell, Levels, cells_of
from edgec.target.load import load_target

Small = tuple[Project, Path]


def cells_in(small_project: Small, levels: Levels, text: str = "") -> tuple[Cell, ...]:
    project, root = small_project
    (root / "targets").mkdir()
    (root / "targets" / "mine.toml").write_text(f'extends = "x86-64-int8"\n{text}\n[[emit]]\nbackend = "example"\n')
    found, _ = cells_of(load_target("mine", root), project, levels)
    return found


def test_failures_are_told_of_each_cell(small_project: Small, tmp_path: Path) -> None:
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
    assert "has changed while the cell was made" in made.failed[cell.key].what
    assert not store.folder(cell.key).exists()


def test_room() -> None:
    assert room_for(1, memory_mb=1) == 1
    assert room_for(1, memory_mb=JOB_MB) == 1
    assert room_for(10_000) == 1


def test_fewer_workers_when_memory_is_short(
    small_project: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = cells_in(small_project, Levels())
    told: list[str] = []
    choose_crew(Means(workers=3, memory_mb=JOB_MB), CellStore(tmp_path, tmp_path), cells, told.append)
    assert told == [f"1 of 3 workers: each may take {JOB_MB} MB, and there are {JOB_MB}"]
    told.clear()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(4)))
    choose_crew(Means(threads=2, memory_mb=1), CellStore(tmp_path, tmp_path), cells, told.append)
    assert told == [f"1 of 2 workers: each may take {JOB_MB} MB, and there are 1"]


def test_times_are_not_taken_in_busy_workers(small_project: Small, tmp_path: Path) -> None:
    text = '[prune]\ngoal = "latency"\namount = 0.3\nwithout_training = true'
    cells, store = cells_in(small_project, Levels(), text), CellStore(tmp_path, tmp_path)
    for means in (Means(workers=2), Means(scheduler="tcp://127.0.0.1:1")):
        with pytest.raises(UsageError, match="other cells would disturb"):
            choose_crew(means, store, cells, print)
    assert isinstance(choose_crew(Means(), store, cells, print), LocalPool)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "tcp://host", "http://host:1", "tcp://host:port"])
def test_addresses(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no address of a scheduler"):
        DaskPool(address, CellStore(tmp_path, tmp_path), {}, ())


def test_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT", 0.5)
    store = CellStore(tmp_path, tmp_path)
    request = CellRequest("0" * 64, "a cell", {"out": str(tmp_path), "threads": 1})
    with pytest.raises(WorkerError, match=r"127\.0\.0\.1:9: the scheduler cannot be reached"):
        DaskPool("tcp://127.0.0.1:9", store, {}, ()).run([request], lambda *_: None, print)
    assert not list(store.lease("x").parent.iterdir())


def test_a_cluster_has_its_own_room(small_project: Small, tmp_path: Path) -> None:
    means = Means(scheduler="tcp://127.0.0.1:1", workers=2)
    with pytest.raises(UsageError, match="a cluster has its own"):
        choose_crew(means, CellStore(tmp_path, tmp_path), cells_in(small_project, Levels()), print)


def test_other_environments_are_refused(tmp_path: Path) -> None:
    own = environment_of(("example",))
    lease = tmp_path / "lease"
    lease.touch()
    assert unfit(own, ("example",), str(lease)) == ""
    assert "does not see" in unfit(own, ("example",), str(tmp_path / "elsewhere"))
    changed = json.loads(json.dumps(dict(own))) | {"torch": "1.0", "edgec's code": "0" * 64}
    code = own["edgec's code"][:12]
    assert differences(changed, ("example",)) == (
        f"edgec's code ({code}, not 000000000000)",
        f"torch ({own['torch']}, not 1.0)",
    )
    request = CellRequest("0" * 64, "a cell", {"out": str(tmp_path), "threads": 1})
    with pytest.raises(WorkerError, match="it has another edgec's code"):
        make_remotely(request, changed, ("example",), str(lease))
    assert isinstance(make_remotely(request, own, ("example",), str(lease)), EdgecError)  # the request itself is wrong
