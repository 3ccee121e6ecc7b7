"""Fine-tuning: what learns and what holds still, the second rate, and losses for importances."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.project.spec import TrainSpec
from edgec.prune.finetune import FEWEST, PrunedModel, TrainingContext, fine_tune, importance_losses
from edgec.prune.zeros import apply_masks, choose_masks
from edgec.target.spec import PruneSpec
from edgec.train.checkpoint import Checkpoint
from edgec.train.loop import Teacher, loss_of
from edgec.train.samples import Samples

MakeJob = Callable[..., Any]


def training_context_of(job: Any, **train: Any) -> TrainingContext:
    spec = TrainSpec(data="train.npz", **train)
    teacher, samples = Teacher(job.model.graph, batched=True), Samples(job.training, job.model.inputs)
    with loss_of(spec, job.folder, 0, samples, teacher) as loss:
        return TrainingContext(teacher, samples, loss, spec, seed=0)


@pytest.mark.parametrize("samples", [FEWEST, FEWEST - 1])
def test_batch_norm_lives_where_a_batch_is_worth_it(make_job: MakeJob, digits_net: nn.Module, samples: int) -> None:
    graph = make_job(digits_net, samples=32).model.graph
    model = PrunedModel(graph, {})
    norm = model.graph.get_submodule("stem.1")
    before = norm.running_mean.clone()
    with model.step(0.0, samples):
        model(torch.rand(samples, 1, 8, 8))
    assert torch.equal(norm.running_mean, before) == (samples < FEWEST)
    assert not any(part.training for part in model.modules())
    model.train()
    assert not any(part.training for part in model.modules())


def test_the_graph_is_left_as_it_was(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=64)
    graph = job.model.graph
    names = [name for name, part in graph.named_modules() if isinstance(part, nn.ReLU)]
    for name in names:
        graph.get_submodule(name).inplace = True
    before = {name: value.clone() for name, value in graph.state_dict().items()}
    with torch.enable_grad():
        done = fine_tune(
            graph, {}, training_context_of(job), PruneSpec(amount=0.5, epochs=1, learning_rate=1e-4),
            lambda rate: Checkpoint(job.folder / "checkpoints", "one"), lambda step: None,
        )  # fmt: skip
    assert all(torch.equal(value, before[name]) for name, value in graph.state_dict().items())
    assert names
    assert all(done.graph.get_submodule(name).inplace for name in names)
    assert done.failed or not torch.equal(done.graph.get_parameter("last.weight"), before["last.weight"])


def test_masked_weights_stay_zero_and_the_others_learn(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=128)
    graph = copy.deepcopy(job.model.graph)
    masks = choose_masks(graph, 0.8, "unstructured")
    apply_masks(graph, masks)
    context = training_context_of(job)
    with torch.enable_grad():
        done = fine_tune(
            graph, masks, context, PruneSpec(sparsity=0.8, epochs=4),
            lambda rate: Checkpoint(job.folder / "checkpoints", f"{rate}"), lambda step: None,
        )  # fmt: skip
    assert not done.failed
    assert done.after.loss < done.before.loss
    assert set(masks) == {"stem.0.weight", "block.0.weight", "hidden.weight", "last.weight"}
    for name, mask in masks.items():
        value = done.graph.get_parameter(name)
        assert not value[~mask].any()
        assert not torch.equal(value[mask], graph.get_parameter(name)[mask])


class Steep(nn.Module):
    """Squares that a large step makes infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.exp(40 * self.first(torch.flatten(x, 1)))).reshape(-1, 3, 1)


def test_where_the_first_rate_fails_the_second_is_tried(make_job: MakeJob) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Steep()
    with torch.no_grad():
        for value in net.first.parameters():
            value.mul_(0.05)
    job = make_job(net, samples=64, labels=None)
    context, graph = training_context_of(job), copy.deepcopy(job.model.graph)
    with torch.no_grad():
        graph.get_parameter("last.weight").mul_(0.99)
    steps: list[str] = []
    rates: list[float] = []

    def checkpoint(rate: float) -> Checkpoint:
        rates.append(rate)
        return Checkpoint(job.folder / "checkpoints", f"{rate}")

    with torch.enable_grad():
        done = fine_tune(graph, {}, context, PruneSpec(amount=0.5, epochs=3), checkpoint, steps.append)
    assert rates == [0.02, 0.002]
    assert done.after.loss <= done.before.loss


def test_losses_of_labels_and_of_the_outputs_alone(make_job: MakeJob, digits_net: nn.Module) -> None:
    job = make_job(digits_net, samples=48)
    labelled, alone = training_context_of(job), training_context_of(job, loss="distill")
    graph = PrunedModel(job.model.graph, {}).graph
    with torch.enable_grad():
        batches = list(importance_losses(labelled, "taylor")(graph))
        singles = list(importance_losses(labelled, "hessian")(graph))
        signed = list(importance_losses(alone, "taylor")(graph))
    assert (len(batches), len(singles), len(signed)) == (2, 48, 2)
    images, labels = labelled.samples.batch(range(32))
    assert labels is not None
    entropy = functional.cross_entropy(job.model.graph(*images), labels)
    # of itself the model has no distance, so cross-entropy is all there is
    assert float(batches[0].detach()) == pytest.approx(float(entropy.detach()), rel=1e-4)
    gradients = torch.autograd.grad(signed[0], list(graph.parameters()), allow_unused=True)
    assert any(value is not None and bool(value.abs().sum() > 0) for value in gradients)
