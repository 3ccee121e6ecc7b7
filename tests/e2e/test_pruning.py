"""Builds that prune: once for what is the same, anew for what is not, and on from where a kill stopped them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.bundle.check import check_digests
from edgec.errors import ProjectError, UnsupportedError

from .command import edgec, start

TARGET = """\
extends = "x86-64-vnni-fp32"

[[emit]]
backend = "onnxruntime"

[prune]
amount = 0.5
epochs = 12
"""
BUILD = ("build", "--target", "small")


@pytest.fixture
def pruning(project: Path) -> Path:
    """The digits project with training data and a target that prunes."""
    shutil.rmtree(project / "targets", ignore_errors=True)
    (project / "targets").mkdir()
    (project / "targets" / "small.toml").write_text(TARGET)
    shutil.copy(project / "calibration.npz", project / "training.npz")  # these are the images it was trained on
    with (project / "edgec.toml").open("a") as file:
        file.write('\n[train]\ndata = "training.npz"\n')
    return project


def model_of(project: Path) -> bytes:
    return (project / "dist" / "small" / "model.onnx").read_bytes()


def manifest_of(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "dist" / "small" / "manifest.json").read_text())
    return found


def pruned_models(project: Path) -> list[str]:
    return sorted(item.parent.name for item in (project / "dist" / ".work" / "pruned").glob("*/pruned.json"))


@pytest.mark.slow
def test_a_pruned_model_is_made_once_for_what_it_follows_from(pruning: Path) -> None:
    first = edgec(*BUILD, cwd=pruning)
    assert first.code == 0, first.errors
    assert "prune: epoch 12 of 12: loss " in first.errors
    manifest, made, once = manifest_of(pruning), model_of(pruning), pruned_models(pruning)
    assert len(once) == 1
    steps = {step["name"]: step for step in manifest["artifacts"][0]["passes"]}
    names = list(steps)
    assert names.index("strip-inference-no-ops") < names.index("prune") < names.index("fold-batch-norm")
    assert "fine-tuned for 12 epochs on " in steps["prune"]["summary"]
    assert steps["prune"]["options"]["round_to"] == 16
    assert manifest["accuracy"][0]["metric"]["drop"] <= 1.0  # of the model before pruning

    again = edgec(*BUILD, cwd=pruning)
    assert again.code == 0, again.errors
    assert "prune: epoch" not in again.errors
    assert (model_of(pruning), pruned_models(pruning)) == (made, once)
    assert manifest_of(pruning) == manifest

    images = dict(np.load(pruning / "training.npz"))
    np.savez(pruning / "training.npz", **{name: value[:-40] for name, value in images.items()})
    other = edgec(*BUILD, cwd=pruning)
    assert other.code == 0, other.errors
    assert "prune: epoch 12 of 12" in other.errors
    assert len(pruned_models(pruning)) == 2
    assert model_of(pruning) != made


@pytest.mark.slow
def test_a_kept_model_holds_no_code_and_a_damaged_one_is_made_again(pruning: Path) -> None:
    first = edgec(*BUILD, cwd=pruning)
    assert first.code == 0, first.errors
    made = model_of(pruning)
    (kept,) = (item.parent for item in (pruning / "dist" / ".work" / "pruned").glob("*/pruned.json"))
    assert {item.name for item in kept.iterdir()} == {"pruned.json", "sizes.json", "tensors.safetensors"}
    damaged = bytearray((kept / "tensors.safetensors").read_bytes())
    damaged[-5] ^= 64
    (kept / "tensors.safetensors").write_bytes(damaged)
    again = edgec(*BUILD, cwd=pruning)
    assert again.code == 0, again.errors
    assert "prune: epoch 12 of 12" in again.errors
    assert model_of(pruning) == made


@pytest.mark.slow
def test_killed_while_it_trains_and_built_again(pruning: Path) -> None:
    process = start(*BUILD, cwd=pruning)
    assert process.stderr is not None
    for line in process.stderr:
        if "prune: epoch 6 of 12" in line:
            break
    process.kill()
    process.communicate(timeout=60)
    assert pruned_models(pruning) == []
    again = edgec(*BUILD, cwd=pruning)
    assert again.code == 0, again.errors
    assert "prune: epoch 1 of 12" not in again.errors
    assert "prune: epoch 12 of 12" in again.errors
    check_digests(pruning / "dist" / "small")
    resumed = model_of(pruning)
    shutil.rmtree(pruning / "dist")
    whole = edgec(*BUILD, cwd=pruning)
    assert whole.code == 0, whole.errors
    assert "prune: epoch 1 of 12" in whole.errors
    assert model_of(pruning) == resumed


def test_without_training_data_only_when_asked_for(project: Path) -> None:
    (project / "targets").mkdir(exist_ok=True)
    target = project / "targets" / "small.toml"
    target.write_text(TARGET)
    refused = edgec(*BUILD, cwd=project)
    assert refused.code == ProjectError.exit_code
    assert "targets/small.toml:7: small prunes the model" in refused.errors
    assert "needs training afterwards, and no training data is named" in refused.errors
    assert "--train DATA" in refused.errors
    target.write_text(TARGET + "without_training = true\nsparsity = 0.8\n")
    explained = edgec("explain", "--target", "small", cwd=project)
    assert "    prune (amount=0.5, goal=channels, importance=l1, scope=layer, round_to=16," in explained.output
    built = edgec(*BUILD, "--max-drop", "100", cwd=project)
    assert built.code == 0, built.errors
    told = [(item["subject"], item["state"]) for item in manifest_of(project)["coverage"]]
    assert ("model", "not fine-tuned") in told
    assert ("zeros", "no faster") in told
    (artifact,) = manifest_of(project)["artifacts"]
    assert 0.15 < artifact["compressed_size"] / artifact["size"] < 0.6
    assert f"{artifact['compressed_size'] / 1024:.1f} KiB compressed" in built.errors


def test_a_model_without_a_graph_is_refused_before_anything_is_made(pruning: Path) -> None:
    (pruning / "branch.py").write_text(
        "import torch\n\n\n"
        "class Branching(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.layer = torch.nn.Linear(64, 10)\n\n"
        "    def forward(self, x):\n"
        "        x = self.layer(torch.flatten(x, 1))\n        return x if x.sum() > 0 else -x\n"
    )
    text = (pruning / "edgec.toml").read_text()
    text = text.replace('path = "model.py:DigitsCNN"\nweights = "model.pt"\n', 'path = "branch.py:Branching"\n')
    (pruning / "edgec.toml").write_text(text)
    refused = edgec(*BUILD, "--allow-weak-float", cwd=pruning)  # it is not trained
    assert refused.code == UnsupportedError.exit_code
    assert "the model has no graph, so it cannot be pruned" in refused.errors
    assert "x.sum() > 0" in refused.errors
    assert pruned_models(pruning) == []


@pytest.mark.slow
def test_a_latency_goal_is_measured_once(project: Path) -> None:
    (project / "wide.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "def wide():\n    torch.manual_seed(0)\n    return nn.Sequential(\n"
        "        nn.Upsample(scale_factor=2), nn.Conv2d(1, 128, 3, padding=1), nn.ReLU(),\n"
        "        nn.Conv2d(128, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(),\n"
        "        nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128 * 256, 10),\n    )\n"
    )
    text = (project / "edgec.toml").read_text()
    text = text.replace('path = "model.py:DigitsCNN"\nweights = "model.pt"\n', 'path = "wide.py:wide"\n')
    (project / "edgec.toml").write_text(text)
    (project / "targets").mkdir(exist_ok=True)
    goal = TARGET.replace("epochs = 12", 'goal = "latency"\nwithout_training = true')
    (project / "targets" / "small.toml").write_text(goal)
    first = edgec(*BUILD, "--max-drop", "100", "--evaluate-samples", "100", cwd=project)
    assert first.code == 0, first.errors
    assert "prune: time it without 48% of the channels" in first.errors
    (step,) = (step for step in manifest_of(project)["artifacts"][0]["passes"] if step["name"] == "prune")
    found = re.search(r"(\d+)% asked for 50% less latency; ([\d.]+) -> ([\d.]+) MMAC", step["summary"])
    assert found is not None
    assert 10 <= int(found[1]) <= 60  # half the channels leave a quarter of the work
    assert 0.25 < float(found[3]) / float(found[2]) < 0.8
    made = model_of(project)
    again = edgec(*BUILD, "--max-drop", "100", "--evaluate-samples", "100", cwd=project)
    assert again.code == 0, again.errors
    assert "prune: time it" not in again.errors
    assert model_of(project) == made
