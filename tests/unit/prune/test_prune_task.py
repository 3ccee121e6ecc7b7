"""Pruning through the task that workers run: what it removes, what training gives back, and what it tells."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgec.errors import LabelsError, PassError, ProjectError, TargetError, UnsupportedError
from edgec.model import store
from edgec.prune.task import prune_model
from edgec.prune.zeros import sparsity_of

MakeJob = Callable[..., Any]


def weight(model: Any, name: str) -> torch.Tensor:
    value = model.graph.get_submodule(name).weight
    assert isinstance(value, torch.Tensor)
    return value


def test_half_the_channels_go_and_training_gives_the_accuracy_back(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net)
    whole = job.right(job.model.graph)
    bare, _ = job.prune("bare", trained=False, amount=0.5, without_training=True)
    pruned, told = job.prune(amount=0.5)
    assert told["channels"]["stem.0"] == [16, 8]
    assert told["channels"]["last"] == [10, 10]
    assert weight(pruned, "hidden").shape == (16, 8 * 16)
    assert job.right(bare.graph) < whole - 3
    assert job.right(pruned.graph) > whole - 2
    assert told["macs"][1] < 0.4 * told["macs"][0]
    assert told["summary"].startswith("43% of the channels removed, 50% asked; ")
    assert "; fine-tuned for 63 epochs on 512 samples: loss " in told["summary"]
    assert [len(epochs) for epochs in told["epochs"]] == [63]
    assert [item["subject"] for item in told["coverage"]] == ["last"]
    assert pruned.graph.get_submodule("stem.1").num_batches_tracked > 0
    assert not any(value.requires_grad for value in pruned.graph.parameters())
    assert not pruned.graph.training


def test_what_has_lost_nothing_is_not_trained(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    same, told = job.prune(amount=0.1, round_to=16, epochs=2)
    assert told["summary"].startswith("0% of the channels removed, 10% asked; ")
    assert told["summary"].endswith("; not fine-tuned")
    assert store.fingerprint(same) == store.fingerprint(job.model)
    assert {item["state"] for item in told["coverage"]} == {"not pruned"}


def test_without_training_it_is_told(make_job: MakeJob, digits_net: nn.Module) -> None:
    _, told = make_job(digits_net).prune(trained=False, amount=0.5, steps=3, without_training=True)
    assert told["summary"].endswith("; not fine-tuned")
    assert told["epochs"] == []
    assert ("model", "not fine-tuned") in [(item["subject"], item["state"]) for item in told["coverage"]]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_steps_end_where_one_step_does(make_job: MakeJob, digits_net: nn.Module, scope: str) -> None:
    job = make_job(digits_net, samples=64)
    _, at_once = job.prune("once", trained=False, amount=0.6, scope=scope, without_training=True)
    _, told = job.prune(amount=0.6, steps=3, epochs=1, scope=scope)
    assert len(told["epochs"]) == 3
    assert "fine-tuned 3 times for 1 epochs" in told["summary"]
    assert any(line.startswith("step 2 of 3: epoch 1 of 1") for line in job.told)
    before, after = (sum(pair[1] for pair in item["channels"].values()) for item in (at_once, told))
    assert after == pytest.approx(before, abs=0 if scope == "layer" else 8)
    assert all(pair[1] % 4 == 0 for name, pair in told["channels"].items() if name != "last")


def test_steps_leave_no_part_of_a_multiple(make_job: MakeJob, digits_net: nn.Module) -> None:
    _, told = make_job(digits_net, samples=64).prune(amount=0.1, steps=2, epochs=1, round_to=8)
    assert [pair for name, pair in told["channels"].items() if name != "last"] == [[16, 16], [16, 16], [32, 32]]


@pytest.mark.parametrize(("goal", "cost"), [("macs", "macs"), ("size", "parameters")])
def test_goals(make_job: MakeJob, digits_net: nn.Module, goal: str, cost: str) -> None:
    job = make_job(digits_net, samples=32)
    _, told = job.prune(amount=0.6, goal=goal, round_to=1, epochs=1)
    before, after = told[cost]
    assert 1 - after / before == pytest.approx(0.6, abs=0.06)
    assert told["share"] < 0.5
    what = {"macs": "multiply-accumulates", "size": "parameters"}[goal]
    assert f"% asked for 60% less {what}; " in told["summary"]
    assert "not reached" not in {item["state"] for item in told["coverage"]}


@pytest.mark.parametrize(("goal", "what"), [("macs", "multiply-accumulates"), ("size", "parameters")])
def test_a_goal_that_is_not_reached_is_told(make_job: MakeJob, digits_net: nn.Module, goal: str, what: str) -> None:
    job = make_job(digits_net, samples=32)
    free = {"ignore": ("block.0", "hidden", "stem.0"), "sparsity": 0.5}
    for options in ({"round_to": 32}, free):  # no layer is wide enough, and none can lose any
        _, told = job.prune(amount=0.1, goal=goal, epochs=1, **options)
        assert told["share"] == 0
        assert told["summary"].startswith(f"0% of the channels removed, 0% asked for 10% less {what}; ")
        assert {"subject": "prune.goal", "state": "not reached"}.items() <= told["coverage"][0].items()
        assert told["coverage"][0]["reason"] == f"1.00 of the unpruned model's {what} are left, 0.90 asked"


@pytest.mark.parametrize("goal", ["channels", "size"])
def test_a_model_that_cannot_lose_channels_is_refused(make_job: MakeJob, digits_net: nn.Module, goal: str) -> None:
    job = make_job(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), samples=32)
    with pytest.raises(PassError, match=r"no layer that can lose channels \(.*an output of the model is made of them"):
        job.prune(amount=0.5, goal=goal)
    pruned, told = job.prune(amount=0.5, goal=goal, sparsity=0.5, epochs=1)
    assert told["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert sparsity_of(pruned.graph) == told["sparsity"]
    with pytest.raises(PassError, match=r"\(.*the target says so \(prune.ignore\)"):
        make_job(digits_net, samples=32).prune(amount=0.5, goal=goal, ignore=("stem", "block", "hidden"))


@pytest.mark.parametrize("importance", ["l1", "l2", "bn-scale", "taylor", "hessian"])
def test_importances(make_job: MakeJob, digits_net: nn.Module, importance: str) -> None:
    job = make_job(digits_net, samples=64)
    pruned, told = job.prune(amount=0.5, importance=importance, epochs=1, ignore=("hidden",))
    assert told["channels"]["stem.0"] == [16, 8]
    assert told["channels"]["hidden"] == [32, 32]
    assert [tuple(item.shape) for item in [pruned.graph(torch.zeros(1, 1, 8, 8))]] == [(1, 10)]


@pytest.mark.parametrize("importance", ["taylor", "hessian"])
def test_importance_without_labels_is_that_of_the_outputs(
    make_job: MakeJob, digits_net: nn.Module, importance: str
) -> None:
    """Channels that nothing reads are the ones to go, and only gradients can tell."""
    job = make_job(digits_net, samples=64, labels=None)
    idle = [1, 2, 5, 7, 11, 13, 14, 15]
    with torch.no_grad():
        net = job.model.graph
        for index in idle:
            rows = slice(16 * index, 16 * index + 16)
            net.get_submodule("hidden").weight[:, rows] = 0
            net.get_submodule("block.0").weight[:, index] = 0
            net.get_submodule("stem.1").weight[index] = 9.0
    store.save(job.model, job.folder / "model")
    pruned, told = job.prune(amount=0.5, importance=importance, epochs=1, ignore=("hidden",))
    left = [index for index in range(16) if index not in idle]
    assert torch.allclose(weight(pruned, "stem.0"), weight(job.model, "stem.0")[left], atol=1e-6)
    reason = next(item["reason"] for item in told["coverage"] if item["state"] == "not fine-tuned")
    assert "the loss on the training data became worse" in reason  # nothing was lost that training could give back


@pytest.mark.parametrize("spec", [{"sparsity": 0.75}, {"sparsity": 0.5, "pattern": "2:4"}])
def test_zeros_outlive_training(make_job: MakeJob, digits_net: nn.Module, spec: dict[str, Any]) -> None:
    job = make_job(digits_net)
    pruned, told = job.prune(epochs=8, steps=2, **spec)
    assert told["sparsity"] == pytest.approx(spec["sparsity"], abs=0.01)
    assert told["sparsity"] == sparsity_of(pruned.graph)
    assert told["channels"] == {}
    assert job.right(pruned.graph) > job.right(job.model.graph) - 5
    if "pattern" in spec:
        fours = weight(pruned, "hidden").reshape(-1, 4)
        assert int((fours == 0).sum(1).min()) >= 2
        states = [(item["subject"], item["state"]) for item in told["coverage"]]
        assert states == [("zeros", "no faster"), ("stem.0", "dense")]


def test_the_same_bytes_twice_and_after_a_kill(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=96)
    spec = {"amount": 0.5, "steps": 2, "epochs": 3}
    _, first = job.prune("one", **spec)
    request = job.request("other", True, {}, spec)
    killed = subprocess.run([sys.executable, "-c", KILLED, request.model_dump_json()], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (job.folder / "other").exists()
    job.told.clear()
    assert prune_model(request, job.told.append).plain() == first
    assert not any(line.startswith("step 1 of 2: epoch 1") for line in job.told)
    assert any(line.startswith("step 2 of 2: epoch 2 of 3") for line in job.told)
    assert (job.folder / "one" / "graph.pt").read_bytes() == (job.folder / "other" / "graph.pt").read_bytes()


KILLED = """
import json, os, signal, sys
from edgec.prune.requests import PruneRequest
from edgec.prune.task import prune_model

def progress(step):
    if step.startswith("step 2 of 2: epoch 2"):
        os.kill(os.getpid(), signal.SIGKILL)

prune_model(PruneRequest.model_validate_json(sys.argv[1]), progress)
"""


class OneSequence(nn.Module):
    """A regression with a batch of 1 built in, a recurrent layer and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.rows = nn.BatchNorm1d(8), nn.LSTM(8, 12, batch_first=True)
        self.first, self.second, self.last = nn.Linear(12, 24), nn.Linear(24, 16), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.rows(self.norm(x.reshape(1, 8, 8)))
        hidden = torch.relu(self.second(torch.relu(self.first(states[:, -1]))))
        return self.last(hidden), hidden.sum(dim=1)


def test_a_model_of_batch_1_without_labels_is_trained_sample_by_sample(make_job: MakeJob) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = OneSequence()
    job = make_job(net, samples=40, labels=None)
    pruned, told = job.prune(amount=0.5, epochs=6, train={"batch_size": 8})
    assert told["channels"]["first"] == [24, 12]
    assert "SQNR in dB" in told["summary"]
    assert told["epochs"][0][-1]["loss"] < told["epochs"][0][0]["loss"]
    assert int(pruned.graph.get_submodule("norm").num_batches_tracked) == 0  # frozen: one sample tells nothing
    assert len(pruned.outputs) == 2


def test_training_that_makes_it_worse_is_undone_and_told(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    pruned, told = job.prune(amount=0.5, epochs=1, learning_rate=30.0)
    bare, _ = job.prune("bare", trained=False, amount=0.5, without_training=True)
    assert store.fingerprint(pruned) == store.fingerprint(bare)
    reason = next(item["reason"] for item in told["coverage"] if item["state"] == "not fine-tuned")
    assert reason.startswith("at learning rate 30 the loss ")


def test_what_cannot_be_is_refused(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=32, labels=None)
    with pytest.raises(TargetError, match="hiden"):
        job.prune(amount=0.5, ignore=("hiden",))
    with pytest.raises(LabelsError, match="no class labels"):
        job.prune(amount=0.5, train={"loss": "cross-entropy"})
    with pytest.raises(ProjectError, match="taylor importance needs training data"):
        job.prune(trained=False, amount=0.5, importance="taylor", without_training=True)


def test_a_model_without_a_graph_is_refused(make_job: MakeJob, branching_net: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="no graph, so it cannot be pruned") as caught:
        make_job(branching_net).prune(amount=0.5)
    assert "x.sum() > 0" in caught.value.what
