"""Bias correction takes the mean error out of every output, and touches nothing but biases."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgec.model.fingerprint import fingerprint
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext
from edgec.passes.correct_bias import CorrectBias, credible_mean
from edgec.passes.runner import run_passes
from edgec.passes.weight_layers import is_transposed, weight_layers
from edgec.passes.weight_simulation import simulated_weight
from edgec.quant.recipe import WeightGrid

Calibrated = Callable[..., PassContext]
COARSE = WeightGrid(limit=7)


class Recurrent(nn.Module):
    """A convolution in one dimension, an LSTM, and a layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm = nn.Conv1d(3, 8, 3, bias=False), nn.LSTM(8, 6, batch_first=True)
        self.mix, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.lstm(self.conv(x).relu().transpose(1, 2))
        return self.head(self.mix(self.mix(y).relu()).relu())


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 1),
            nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, groups=2), nn.Flatten(), nn.Linear(4 * 49, 5),
        ),
        (1, 3, 10, 10),
    ),
    "recurrent": (Recurrent, (1, 3, 12)),
}  # fmt: skip


def _samples(shape: tuple[int, ...], count: int, seed: int) -> Any:
    """Inputs with a mean: rounding errors of weights then have one too."""
    source = np.random.default_rng(seed)
    return (source.standard_normal((count, *shape)) + 1.0).astype(np.float32)


def rounded(model: FloatModel, grid: WeightGrid) -> torch.fx.GraphModule:
    """The graph with weights as a backend rounds them that leaves transposed convolutions in float."""
    graph = copy.deepcopy(model.graph)
    assert graph is not None
    for layer in weight_layers(graph)[0]:
        if is_transposed(layer.module):
            continue
        layer.module.weight = nn.Parameter(simulated_weight(layer.module, grid))
    return graph


def _mean_error(model: FloatModel, corrected: FloatModel, grid: WeightGrid, samples: Any) -> float:
    graph = rounded(corrected, grid)
    with torch.no_grad():
        errors = [model.graph(torch.from_numpy(item)) - graph(torch.from_numpy(item)) for item in samples]
    return float(torch.stack(errors).mean(dim=0).norm())


@pytest.mark.parametrize("grid", [COARSE, WeightGrid(limit=7, per_channel=False), WeightGrid(limit=20)])
@pytest.mark.parametrize("name", NETS)
def test_mean_error_falls_on_samples_not_seen(wrap: Any, calibrated: Calibrated, name: str, grid: WeightGrid) -> None:
    make, shape = NETS[name]
    torch.manual_seed(0)
    model = wrap(make(), shape)
    ctx = calibrated(model, _samples(shape, 48, 1))
    result, (record,) = run_passes((CorrectBias(grid),), model, ctx, fingerprint)
    unseen = _samples(shape, 48, 2)
    assert record.state == "changed"
    assert _mean_error(model, result, grid, unseen) < 0.6 * _mean_error(model, model, grid, unseen)


def test_weights_stay_and_missing_biases_are_made(wrap: Any, calibrated: Calibrated) -> None:
    make, shape = NETS["conv"]
    model = wrap(make(), shape)
    result = CorrectBias(COARSE).run(model, calibrated(model, _samples(shape, 8, 1))).model
    before, after = dict(model.graph.named_parameters()), dict(result.graph.named_parameters())
    assert set(after) - set(before) == {"0.bias"}
    assert all(torch.equal(value, after[name]) for name, value in before.items() if name.endswith("weight"))
    same = {name for name, value in before.items() if name.endswith("bias") and torch.equal(value, after[name])}
    assert same == {"6.bias"}


def test_what_is_not_corrected_is_told(wrap: Any, calibrated: Calibrated) -> None:
    make, shape = NETS["recurrent"]
    model = wrap(make(), shape)
    result = CorrectBias(COARSE, float_layers=("head",)).run(model, calibrated(model, _samples(shape, 8, 1)))
    assert [(item.subject, item.state) for item in result.coverage] == [("lstm", "not corrected")]
    assert torch.equal(result.model.graph.get_submodule("head").bias, model.graph.get_submodule("head").bias)
    assert result.summary == "corrected the biases of 2 layers"


def test_transposed_convolutions_are_left_alone_and_told(wrap: Any, calibrated: Calibrated) -> None:
    model = wrap(nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 1)), (1, 3, 6, 6))
    result = CorrectBias(COARSE).run(model, calibrated(model, _samples((1, 3, 6, 6), 8, 1)))
    assert [(item.subject, item.state) for item in result.coverage] == [("0", "bias not corrected")]
    assert result.summary == "corrected the biases of 1 layers"
    same = {
        name
        for name, value in model.graph.named_parameters()
        if torch.equal(value, result.model.graph.get_parameter(name))
    }
    assert same == {"0.weight", "0.bias", "2.weight"}


def test_the_same_samples_give_the_same_biases(wrap: Any, calibrated: Calibrated) -> None:
    make, shape = NETS["conv"]
    model = wrap(make(), shape)
    ctx = calibrated(model, _samples(shape, 8, 1))
    first, second = (fingerprint(CorrectBias(COARSE).run(model, ctx).model) for _ in range(2))
    assert first == second


def test_a_mean_that_may_be_chance_is_shrunk_to_nothing() -> None:
    source = torch.Generator().manual_seed(0)
    noise = torch.randn(32, 400, generator=source)
    assert float((credible_mean(noise) == 0).float().mean()) > 0.5
    assert torch.allclose(credible_mean(noise + 100), (noise + 100).mean(dim=0), rtol=1e-4)


def test_it_needs_a_graph_and_samples(wrap: Any, ctx: PassContext) -> None:
    model = wrap(nn.Linear(4, 2), (1, 4))
    assert CorrectBias(COARSE).requires(model, ctx) == "there are no calibration samples"
    without = replace(model, graph=None, untraceable="why")
    assert CorrectBias(COARSE).requires(without, ctx) == "the model has no graph: why"
