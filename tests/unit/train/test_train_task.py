"""Training through the task that workers run: what it learns, and what it writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgec.errors import LabelsError, ProjectError, UnsupportedError
from edgec.model import store
from edgec.passes.weight_layers import by_output, weight_layers
from edgec.quant.recipe import WeightGrid

MakeJob = Callable[..., Any]
FOUR_BITS = WeightGrid(limit=7)


def codes(graph: Any, limit: float) -> list[torch.Tensor]:
    """Codes of all weights, as a backend computes them."""
    found = []
    for layer in weight_layers(graph)[0]:
        rows = by_output(layer.module, layer.module.weight.detach())
        found.append(rows / (rows.abs().amax(dim=1, keepdim=True) / limit))
    return found


def test_four_bits_are_learnt(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net)
    trained, answer = job.train(grid=FOUR_BITS, epochs=6)
    first, last = answer["epochs"][0], answer["epochs"][-1]
    assert last["loss"] < 0.7 * first["loss"]
    assert [item["epoch"] for item in answer["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert answer["metric"] == "top-1 in %"
    assert last["metric"] > first["metric"]
    assert "trained for 6 epochs on 320 samples: loss" in answer["summary"]
    assert answer["summary"] in trained.notes
    assert any(line.startswith("epoch 3 of 6: loss ") and "top-1 in %" in line for line in job.told)
    assert job.right(trained.graph) >= job.right(job.model.graph) - 2


@pytest.mark.parametrize("limit", [7.0, 127.0, 64.0, 127.5])
def test_weights_lie_on_the_grid_and_reach_its_end(make_job: MakeJob, digits_net: nn.Module, limit: float) -> None:
    trained, _ = make_job(digits_net, samples=64).train(grid=WeightGrid(limit=limit), epochs=1)
    found = codes(trained.graph, limit)
    assert len(found) == 4
    for rows in found:
        largest = rows.abs() >= limit * (1 - 1e-6)
        assert (largest.any(dim=1)).all()
        assert torch.allclose(rows[~largest], rows[~largest].round(), atol=1e-4, rtol=0)
    values = [layer.module.weight for layer in weight_layers(trained.graph)[0]]
    if limit == 7:
        assert all(len(row.unique()) <= 15 for value in values for row in value.flatten(1))


USERS_LOOP = """
import torch

def train(model, samples):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for index in range(8):
        inputs, _ = samples[index]
        optimizer.zero_grad()
        model(*inputs).square().sum().backward()
        optimizer.step()
"""


@pytest.mark.parametrize("function", [None, "loop.py:train"])
@pytest.mark.parametrize("limit", [7.0, 127.0])
def test_zeros_that_pruning_has_made_stay_when_asked_for(
    make_job: MakeJob, digits_net: nn.Module, limit: float, function: str | None
) -> None:
    job = make_job(digits_net, samples=64)
    (job.folder / "loop.py").write_text(USERS_LOOP)
    zeros = {}
    with torch.no_grad():
        for layer in weight_layers(job.model.graph)[0]:
            weight = layer.module.weight
            zeros[layer.name] = weight.abs() <= weight.abs().median()
            weight.masked_fill_(zeros[layer.name], 0.0)
    store.save(job.model, job.folder / "model")
    options: dict[str, Any] = {"grid": WeightGrid(limit=limit), "epochs": 8, "function": function}
    kept, _ = job.train(keep_zeros=True, learning_rate=0.02, **options)
    filled, _ = job.train("filled", learning_rate=0.02, **options)
    assert store.fingerprint(kept) != store.fingerprint(job.model)
    total = {"kept": 0, "filled": 0}
    for name, mask in zeros.items():
        assert bool((kept.graph.get_submodule(name).weight[mask] == 0).all())
        total["kept"] += int(mask.sum())
        total["filled"] += int((filled.graph.get_submodule(name).weight[mask] == 0).sum())
    assert total["filled"] < total["kept"]


def test_the_result_is_a_plain_float_graph_of_the_same_structure(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    trained, answer = job.train(epochs=1)
    spelt = [[(node.op, str(node.target)) for node in one.graph.graph.nodes] for one in (trained, job.model)]
    assert spelt[0] == spelt[1]
    kinds = {type(module) for module in trained.graph.modules() if not list(module.children())}
    assert kinds == {type(module) for module in job.model.graph.modules() if not list(module.children())}
    assert store.fingerprint(trained) != store.fingerprint(job.model)
    assert answer["coverage"] == []


def test_the_same_bytes_twice(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=96)
    before = torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    answers = [job.train(out, epochs=2)[1] for out in ("one", "other")]
    assert answers[0] == answers[1]
    files = [(job.folder / out / "graph.pt").read_bytes() for out in ("one", "other")]
    assert files[0] == files[1]
    assert torch.are_deterministic_algorithms_enabled() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_without_labels_the_float_model_teaches(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=128, labels=None, calibrated=False)
    _, answer = job.train(grid=FOUR_BITS, epochs=4)
    assert answer["metric"] == "agreement in %"
    assert answer["epochs"][-1]["loss"] < answer["epochs"][0]["loss"]
    with pytest.raises(LabelsError, match="no class labels"):
        job.train(loss="cross-entropy")


class Recurrent(nn.Module):
    """A regression with a batch of 1 built in."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 12, batch_first=True)
        self.first, self.last = nn.Linear(12, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.rows(x.reshape(1, 8, 8))
        hidden = torch.relu(self.first(states[:, -1]))
        return self.last(hidden), hidden.sum(dim=1)


def test_a_model_of_batch_1_and_two_outputs_is_trained_sample_by_sample(make_job: MakeJob) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Recurrent()
    job = make_job(net, samples=40, labels=lambda images: images.mean(dim=(1, 2, 3)))
    trained, answer = job.train(grid=FOUR_BITS, epochs=3, batch_size=8)
    assert answer["metric"] == "SQNR in dB"
    assert answer["epochs"][-1]["loss"] < answer["epochs"][0]["loss"]
    assert [item["subject"] for item in answer["coverage"]] == ["rows"]
    assert "LSTM" in answer["coverage"][0]["reason"]
    assert len(trained.outputs) == 2


def test_training_that_makes_it_worse_is_undone(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    trained, answer = job.train(epochs=1, learning_rate=3.0)
    assert "weights are only rounded" in answer["summary"]
    assert job.right(trained.graph) >= job.right(job.model.graph) - 1
    assert all(torch.allclose(rows, rows.round(), atol=1e-3) for rows in codes(trained.graph, 127))


def test_a_model_that_exists_only_as_onnx_is_refused(make_job: MakeJob, branching_net: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="no graph, so it cannot be trained") as caught:
        make_job(branching_net).train()
    assert "x.sum() > 0" in caught.value.what
    assert "[train]" in caught.value.hint


def test_a_model_without_weights_is_refused(make_job: MakeJob) -> None:
    with pytest.raises(UnsupportedError, match="no layer"):
        make_job(nn.Sequential(nn.AvgPool2d(2), nn.Flatten())).train()


USER = """
import torch
from torch.nn import functional as F

def weighted(outputs, labels):
    return F.cross_entropy(outputs, labels, label_smoothing=0.1)

def broken(outputs, labels):
    return F.cross_entropy(outputs, labels[:3])

def vector(outputs, labels):
    return outputs.sum(dim=1)

def constant(outputs, labels):
    return torch.tensor(1.0)

def fit(model, samples):
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for epoch in range(2):
        for start in range(0, len(samples), 16):
            inputs, labels = samples.batch(range(start, start + 16))
            optimizer.zero_grad()
            F.cross_entropy(model(*inputs), labels).backward()
            optimizer.step()

def ruin(model, samples):
    for value in model.parameters():
        value.data.fill_(float("nan"))

def wrong(model, samples):
    return 3
"""


@pytest.fixture
def job(make_job: MakeJob, digits_net: nn.Module, tmp_path: Path) -> Any:
    """A small job whose project has the user's functions."""
    (tmp_path / "user.py").write_text(USER)
    return make_job(digits_net, samples=64)


def test_the_users_loss(job: Any) -> None:
    plain = job.train("plain", epochs=2, loss="cross-entropy")[1]
    smoothed = job.train("smoothed", epochs=2, loss="user.py:weighted")[1]
    assert smoothed["epochs"][0]["loss"] > plain["epochs"][0]["loss"] + 0.2


@pytest.mark.parametrize(
    ("function", "told", "where"),
    [
        ("broken", "Expected input batch_size", r"user\.py:9$"),
        ("vector", r"the loss returned torch\.float32 \[32\]", r"user\.py:vector$"),
        ("constant", "no gradient", r"user\.py:constant$"),
        ("absent", 'no function "absent"', r"user\.py$"),
    ],
)
def test_a_wrong_loss_is_told_with_its_place(job: Any, function: str, told: str, where: str) -> None:
    with pytest.raises(ProjectError, match=told) as caught:
        job.train(loss=f"user.py:{function}", epochs=1)
    assert re.search(where, caught.value.where)


def test_a_misspelt_loss(job: Any) -> None:
    with pytest.raises(ProjectError, match='no loss is called "destill"') as caught:
        job.train(loss="destill")
    assert "distill" in caught.value.hint


def test_the_users_own_loop(job: Any) -> None:
    trained, answer = job.train(grid=FOUR_BITS, function="user.py:fit")
    assert "with user.py:fit" in answer["summary"]
    assert all(torch.allclose(rows, rows.round(), atol=1e-4) for rows in codes(trained.graph, 7))
    assert store.fingerprint(trained) != store.fingerprint(job.model)


@pytest.mark.parametrize(("function", "told"), [("ruin", "not finite"), ("wrong", "returned a int")])
def test_a_wrong_loop(job: Any, function: str, told: str) -> None:
    with pytest.raises(ProjectError, match=told):
        job.train(function=f"user.py:{function}")


def test_labels_must_be_classes_of_the_output(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64, labels=lambda images: torch.arange(len(images)))
    with pytest.raises(LabelsError, match=r"label 63 is none of the 10 classes"):
        job.train(epochs=1)
