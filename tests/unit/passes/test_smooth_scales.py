"""Smoothing keeps the function, and makes a tensor with a few large channels fit one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgec.model.fingerprint import fingerprint
from edgec.model.outputs import tensors_of
from edgec.model.samples import sample_arrays
from edgec.model.spec import FloatModel
from edgec.passes.arithmetic import arithmetic_of
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.smooth_scales import SmoothScales
from edgec.quant.recipe import WeightGrid

Calibrated = Callable[..., PassContext]
WIDTH, LARGE = 16, (3, 11)
GRID = WeightGrid()


def uneven(norm: nn.Module) -> nn.Module:
    """Gains of which two are fifty times as large as the others."""
    assert isinstance(norm.weight, nn.Parameter)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
        norm.weight[list(LARGE)] *= 50
    return norm


class Before(nn.Module):
    """The norm is before the layers: nothing else reads it."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm, self.left, self.right = uneven(norm), nn.Linear(WIDTH, 8), nn.Linear(WIDTH, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x[..., :8] + torch.relu(self.left(y)) * self.right(y)


class After(nn.Module):
    """The norm is after a sum, and the next sum reads it too."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = uneven(nn.LayerNorm(WIDTH)), nn.Linear(WIDTH, 32), nn.Linear(32, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return y + self.down(nn.functional.gelu(self.up(y)))


class Attending(nn.Module):
    """torch's own attention on a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention = uneven(nn.LayerNorm(WIDTH)), nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y)[0]


def smoothed(
    module: nn.Module, wrap: Callable[..., FloatModel], calibrated: Calibrated, *, dynamic: bool
) -> tuple[FloatModel, PassResult[FloatModel], PassContext]:
    torch.manual_seed(0)
    model = wrap(module, (1, 12, WIDTH))
    ctx = calibrated(model, np.random.default_rng(0).normal(size=(16, 1, 12, WIDTH)).astype(np.float32))
    step = SmoothScales(GRID, dynamic=dynamic)
    assert step.requires(model, ctx) is None
    before = fingerprint(model)
    result = step.run(model, ctx)
    assert fingerprint(model) == before
    assert step.ensures(result.model, ctx) is None
    return model, result, ctx


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "make", [lambda: Before(nn.LayerNorm(WIDTH)), lambda: Before(nn.RMSNorm(WIDTH)), After, Attending],
    ids=["layer-norm", "rms-norm", "after", "attention"],
)  # fmt: skip
def test_outputs_stay_the_same(
    make: Callable[[], nn.Module], dynamic: bool, wrap: Callable[..., FloatModel], calibrated: Calibrated
) -> None:
    model, result, _ = smoothed(make(), wrap, calibrated, dynamic=dynamic)
    assert model.graph is not None
    assert result.model.graph is not None
    for seed in range(5):
        sample = [torch.from_numpy(item) for item in sample_arrays(model.inputs, seed=seed)]
        (ours,), (theirs,) = (tensors_of(graph(*sample)) for graph in (result.model.graph, model.graph))
        assert float((ours - theirs).detach().abs().max()) <= 1e-4 * float(theirs.detach().abs().max())


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_norm_takes_the_factors_where_only_linear_layers_read_it(
    dynamic: bool, wrap: Callable[..., FloatModel], calibrated: Calibrated
) -> None:
    module = Before(nn.LayerNorm(WIDTH))
    model, result, _ = smoothed(module, wrap, calibrated, dynamic=dynamic)
    assert result.summary == "smoothed the inputs of 2 linear layers, with 0 multiplications more"
    assert model.graph is not None
    assert result.model.graph is not None
    assert len(result.model.graph.graph.nodes) == len(model.graph.graph.nodes)
    gains = [graph.get_parameter("norm.weight").detach().abs() for graph in (model.graph, result.model.graph)]
    before, after = (float(item.max() / item.median()) for item in gains)
    assert before > 30
    assert after < before / 4
    left = result.model.graph.get_parameter("left.weight").detach().abs().amax(0)
    assert float(left[list(LARGE)].min()) > 3 * float(left.median())


def test_where_a_sum_reads_the_norm_too_it_takes_a_multiplication(
    wrap: Callable[..., FloatModel], calibrated: Calibrated
) -> None:
    _, static, _ = smoothed(After(), wrap, calibrated, dynamic=False)
    assert static.summary.startswith("smoothed the inputs of 0 linear layers")
    assert {item.subject for item in static.coverage} == {"up", "down"}
    assert all(item.state == "not smoothed" for item in static.coverage)
    _, dynamic, _ = smoothed(After(), wrap, calibrated, dynamic=True)
    assert dynamic.summary.startswith("smoothed the inputs of ")
    assert not dynamic.coverage
    assert dynamic.model.graph is not None
    (factors,) = (value for name, value in dynamic.model.graph.named_buffers() if name.startswith("up"))
    assert float(factors[list(LARGE)].max()) < 0.3 * float(factors.median())


def test_an_even_tensor_is_left_alone(wrap: Callable[..., FloatModel], calibrated: Calibrated) -> None:
    torch.manual_seed(2)
    even = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 64))
    model, result, _ = smoothed(even, wrap, calibrated, dynamic=True)
    assert fingerprint(result.model) == fingerprint(model)


def test_it_needs_samples(wrap: Callable[..., FloatModel], ctx: PassContext) -> None:
    model = wrap(After(), (1, 12, WIDTH))
    assert SmoothScales(GRID).requires(model, ctx) == "there are no calibration samples"
    assert "no graph" in str(SmoothScales(GRID).requires(replace(model, graph=None), ctx))


class Pooled(nn.Module):
    """A convolution before attention, of any width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.block = nn.Conv1d(12, channels, 3, padding=1), Attending()
        self.back = nn.Conv1d(channels, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.back(self.conv(x)))


@pytest.mark.parametrize(
    ("module", "place"),
    [
        (Attending(), "first"), (Pooled(4), "first"), (Pooled(100), "later"), (Pooled(4000), "never"),
        (After(), "later"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12 * WIDTH, 10), nn.Softmax(1)), "later"),
        (nn.Sequential(nn.Conv1d(12, 4, 3), nn.ReLU()), "never"),
    ],
)  # fmt: skip
def test_models_that_attend_are_told_from_others(
    module: nn.Module, place: str, wrap: Callable[..., FloatModel]
) -> None:
    assert arithmetic_of(wrap(module, (1, 12, WIDTH))).dynamic_linear == place
