"""Where a graph is fake-quantized."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from edgec.quant.recipe import WeightGrid
from edgec.train.prepare import TrainableModel


def prepared(module: nn.Module, *inputs: torch.Tensor, activations: bool = True) -> TrainableModel:
    """The trainable form of `module`, calibrated on one sample."""
    graph = fx.symbolic_trace(module.eval())
    model = TrainableModel(graph, WeightGrid(), inputs, activations=activations)
    model.observe([inputs])
    return model


def rounded(model: TrainableModel) -> list[str]:
    """What is rounded, by the names of modules or functions, in execution order."""
    found = []
    for node in model.graph.graph.nodes:
        if str(node.target).startswith("activation_range"):
            source = node.args[0]
            found.append(str(source.target) if source.op != "call_function" else source.target.__name__)
    return found


class Residual(nn.Module):
    """A block with everything that shares or fuses ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
        self.relu6 = nn.ReLU6()
        self.pool, self.average = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        self.last, self.softmax = nn.Linear(3, 4), nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu6(self.a(x)))
        x = F.relu(x + self.b(x) * torch.sigmoid(self.c(x)))
        return self.softmax(self.last(torch.flatten(self.average(x), 1)))


def test_convolutional_nets_are_rounded_after_their_clamps() -> None:
    model = prepared(Residual(), torch.randn(1, 3, 8, 8))
    assert rounded(model) == ["x", "relu6", "b", "c", "sigmoid", "mul", "relu", "average", "last", "softmax"]
    by_source = {
        str(node.args[0]): str(node.target)
        for node in model.graph.graph.nodes
        if str(node.target).startswith("activation_range")
    }
    assert by_source["average"] == by_source["relu"]
    assert len(set(by_source.values())) == len(by_source) - 1
    fixed: Any = model.graph.get_submodule(by_source["softmax"])
    assert (float(fixed.low), float(fixed.high)) == (0.0, 255 / 256)


def test_all_parameters_get_gradients_and_nothing_leaves_inference_mode() -> None:
    model = prepared(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.ReLU(inplace=True)), torch.randn(1, 3, 8, 8))
    assert not model.train().training
    assert not any(part.training for part in model.modules())
    model(torch.randn(1, 3, 8, 8)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())


def test_a_batch_norm_that_is_left_is_frozen() -> None:
    model = prepared(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8))
    assert {name: value.requires_grad for name, value in model.named_parameters()} == {
        "graph.0.weight": False,
        "graph.0.bias": False,
        "graph.2.bias": True,
        "graph.2.parametrizations.weight.original": True,
    }
    before = model.graph.get_submodule("0").running_mean.clone()
    model(torch.randn(2, 3, 8, 8))
    assert torch.equal(model.graph.get_submodule("0").running_mean, before)


class Attention(nn.Module):
    """Projections around an attention with a mask, and word ids."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 8)
        self.q, self.k, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.norm = nn.LayerNorm(8)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        scores = torch.matmul(self.q(x), self.k(x).transpose(1, 2)) + mask
        return self.out(self.norm(torch.matmul(torch.softmax(scores, dim=-1), x)))


def test_masks_stay_float_and_are_told() -> None:
    ids, mask = torch.tensor([[0, 1, 4]]), torch.tensor([[[0.0, -torch.inf, -torch.inf]]])
    module = Attention()
    model = prepared(module, ids, mask)
    assert rounded(model) == ["mask", "words", "q", "k", "add", "norm", "out"]
    reasons = {item.subject: item.reason for item in model.left_float()}
    assert list(reasons.values()) == ["its values are not finite"] * 2
    with torch.no_grad():
        assert torch.allclose(model(ids, mask), module(ids, mask), atol=0.05)


def test_weight_only_models_have_float_activations() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert rounded(prepared(net, torch.randn(1, 3, 8, 8), activations=False)) == []


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_have_a_scale_for_each_output(groups: int) -> None:
    net = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=groups))
    with torch.no_grad():
        net[0].weight *= torch.logspace(0, 3, 6 // groups).reshape(1, -1, 1, 1)
    x = torch.randn(1, 4, 5, 5)
    model = prepared(net, x, activations=False)
    with torch.no_grad():
        error = (model(x) - net(x)).square().mean(dim=(0, 2, 3)) / net(x).square().mean(dim=(0, 2, 3))
    assert float(error.max()) < 1e-4


def test_ranges_follow_batches_only_while_asked_to() -> None:
    model = prepared(nn.Sequential(nn.Conv2d(1, 2, 1)), torch.ones(1, 1, 4, 4))
    first = model.ranges[0]
    model(torch.full((1, 1, 4, 4), 3.0))
    assert float(first.high) == 1
    model.follow(True)
    model(torch.full((1, 1, 4, 4), 3.0))
    assert float(first.high) == pytest.approx(1.02)
