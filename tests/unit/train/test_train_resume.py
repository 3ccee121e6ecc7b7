"""A killed training goes on where it was, and ends with the same bytes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.train.task import loss_sources, train_quantized

KILLED_AT_THE_THIRD = """
import os, signal, sys
from edgec.train.requests import TrainRequest
from edgec.train.task import train_quantized

def progress(step):
    if step.startswith("epoch 3"):
        os.kill(os.getpid(), signal.SIGKILL)

train_quantized(TrainRequest.model_validate_json(sys.argv[1]), progress)
"""


def test_killed_and_resumed_gives_the_same_bytes(make_job: Callable[..., Any], digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=96)
    grid = WeightGrid(limit=7)
    _, whole = job.train("whole", grid, epochs=4)
    request = job.request("resumed", grid, "int8", {"epochs": 4})
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_THE_THIRD, request.model_dump_json()], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (job.folder / "resumed").exists()
    assert len(list((job.folder / "checkpoints-resumed").glob("*.pt"))) == 1
    job.told.clear()
    assert train_quantized(request, job.told.append).plain() == whole
    begun = [line.partition(":")[0] for line in job.told if line.startswith("epoch")]
    assert begun == ["epoch 3 of 4", "epoch 4 of 4", "epoch 4 of 4"]
    files = [(job.folder / out / "graph.pt").read_bytes() for out in ("whole", "resumed")]
    assert files[0] == files[1]


def test_another_seed_or_option_begins_anew(make_job: Callable[..., Any], digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    folder = job.folder / "checkpoints-out"
    job.train(epochs=1)
    assert len(list(folder.iterdir())) == 1
    job.train(epochs=1, learning_rate=1e-3)
    job.train(epochs=1, grid=WeightGrid(limit=7))
    assert len(list(folder.iterdir())) == 3


def test_a_damaged_checkpoint_is_ignored(make_job: Callable[..., Any], digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    _, first = job.train("out", epochs=1)
    (file,) = (job.folder / "checkpoints-out").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert job.train("out", epochs=1)[1] == first


def test_what_a_loss_imports_from_subfolders_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "parts" / "deep").mkdir(parents=True)
    (tmp_path / "losses.py").write_text("from parts.deep.mine import loss\n")
    mine = tmp_path / "parts" / "deep" / "mine.py"
    mine.write_text("def loss(*_): return 0\n")
    spec = TrainSpec(data="train.npz", loss="losses.py:loss")
    before = loss_sources(spec, tmp_path)
    assert sorted(before) == ["losses.py", "parts/deep/mine.py"]
    mine.write_text("def loss(*_): return 1\n")
    after = loss_sources(spec, tmp_path)
    assert after["losses.py"] == before["losses.py"]
    assert after["parts/deep/mine.py"] != before["parts/deep/mine.py"]
    assert loss_sources(TrainSpec(data="train.npz"), tmp_path) == {}
