"""Adaptive rounding beats rounding to nearest, on a grid that any symmetric quantizer finds again."""

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
from edgec.passes.float_corrections import float_corrections
from edgec.passes.round_adaptively import RoundAdaptively
from edgec.passes.rounding_statistics import RoundingStatistics
from edgec.passes.runner import run_passes
from edgec.passes.weight_layers import weight_layers
from edgec.passes.weight_simulation import simulated_weight
from edgec.quant.recipe import Recipe, WeightGrid

Calibrated = Callable[..., PassContext]
SHAPE = (1, 3, 12, 12)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Conv2d(16, 12, 3, stride=2, dilation=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 6),
    )  # fmt: skip


def _smooth(count: int, seed: int) -> Any:
    """Images whose neighbouring pixels are alike, as those of photos are."""
    source = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4, generator=source) + 0.5
    images = nn.functional.interpolate(coarse, size=SHAPE[2:], mode="bilinear")
    return images.reshape(count, *SHAPE).numpy()


def _error(model: FloatModel, graph: torch.fx.GraphModule, samples: Any) -> float:
    assert model.graph is not None
    with torch.no_grad():
        pairs = [(model.graph(item), graph(item)) for item in torch.from_numpy(samples)]
    return float(torch.stack([(exact - ours).square().mean() for exact, ours in pairs]).mean())


def _to_nearest(model: FloatModel, grid: WeightGrid) -> torch.fx.GraphModule:
    graph = copy.deepcopy(model.graph)
    assert graph is not None
    for layer in weight_layers(graph)[0]:
        layer.module.weight = nn.Parameter(simulated_weight(layer.module, grid))
    return graph


@pytest.mark.parametrize("correct_bias", [False, True])
@pytest.mark.parametrize("per_channel", [True, False])
def test_four_bits_lose_less_than_to_nearest(
    wrap: Any, calibrated: Calibrated, per_channel: bool, correct_bias: bool
) -> None:
    model, grid = wrap(_net(), SHAPE), WeightGrid(limit=7, per_channel=per_channel)
    ctx = calibrated(model, _smooth(32, 1))
    result, (record,) = run_passes((RoundAdaptively(grid, correct_bias=correct_bias),), model, ctx, fingerprint)
    unseen = _smooth(32, 2)
    nearest, found = (_error(model, graph, unseen) for graph in (_to_nearest(model, grid), result.graph))
    assert 10 * np.log10(nearest / found) > 2
    assert record.summary.endswith("dB in the mean")
    assert record.options["grid"] == {"limit": 7.0, "per_channel": per_channel}


@pytest.mark.parametrize("limit", [7, 63, 127])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_symmetric_quantizer_finds_the_same_codes(
    wrap: Any, calibrated: Calibrated, limit: int, per_channel: bool
) -> None:
    model = wrap(_net(), SHAPE)
    with torch.no_grad():
        model.graph.get_submodule("0").weight[3] = 0.0  # a dead channel
        model.graph.get_submodule("4").weight[:, :, 0, 0] = 0.0  # pruned weights
    ctx = calibrated(model, _smooth(8, 1))
    grid = WeightGrid(limit=limit, per_channel=per_channel)
    result = RoundAdaptively(grid, steps=60).run(model, ctx).model
    moved = 0
    for name in ("0", "2", "4", "7"):
        before, after = (graph.get_submodule(name).weight.detach().numpy() for graph in (model.graph, result.graph))
        axes = tuple(range(1, before.ndim)) if per_channel else None
        scale, again = (np.abs(item).max(axis=axes, keepdims=True) / np.float32(limit) for item in (before, after))
        np.testing.assert_array_equal(again, scale)
        scale = np.where(scale > 0, scale, 1)
        codes = np.rint(after / scale)
        assert np.abs(codes).max() <= limit
        np.testing.assert_allclose(codes * scale, after, rtol=1e-6)
        assert np.abs(codes - before / scale).max() < 1 + 1e-3  # up or down, never further
        assert not after[before == 0].any()
        moved += int((codes != np.rint(before / scale)).sum())
    assert moved > 0


def test_the_same_seed_gives_the_same_bytes(wrap: Any, calibrated: Calibrated) -> None:
    model = wrap(_net(), SHAPE)
    ctx = calibrated(model, _smooth(8, 1))
    step = RoundAdaptively(WeightGrid(limit=7), steps=40)
    assert fingerprint(step.run(model, ctx).model) == fingerprint(step.run(model, ctx).model)


class Mixed(nn.Module):
    """A shared layer, attention, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.attention = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.wide = nn.ConvTranspose1d(8, 4, 2), nn.Linear(4 * 7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shared(self.shared(x).relu())
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.wide(self.up(x.transpose(1, 2)).flatten(1))


def test_what_is_left_at_nearest_is_told(wrap: Any, calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    model = wrap(Mixed(), (1, 6, 8))
    samples = np.random.default_rng(0).standard_normal((24, 1, 6, 8)).astype(np.float32)
    grid = WeightGrid(limit=7)
    result = RoundAdaptively(grid, float_layers=("wide",)).run(model, calibrated(model, samples))
    assert {item.subject: item.state for item in result.coverage} == {
        "attention": "not corrected",
        "up": "rounded to nearest",
    }
    before, after = dict(model.graph.named_parameters()), dict(result.model.graph.named_parameters())
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert {"up.weight", "up.bias", "wide.weight", "wide.bias", "attention.in_proj_weight"} <= same
    assert not same & {"shared.weight", "shared.bias"}


def test_one_sample_is_enough_to_run(wrap: Any, calibrated: Calibrated) -> None:
    model = wrap(_net(), SHAPE)
    result = RoundAdaptively(WeightGrid(limit=7), steps=20).run(model, calibrated(model, _smooth(1, 1)))
    assert _error(model, result.model.graph, _smooth(4, 2)) < 10


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, padding_mode="circular"),
        nn.Conv2d(4, 4, (3, 2), stride=(1, 2), padding=(1, 0), groups=4, padding_mode="reflect"),
        nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1),
        nn.Linear(5, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_patches_times_weights_are_the_outputs(layer: Any) -> None:
    shapes = {"Conv1d": (2, 4, 11), "Conv2d": (2, 4, 6, 7), "Conv3d": (2, 2, 4, 5, 4), "Linear": (2, 4, 5)}
    source = torch.randn(shapes[type(layer).__name__], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = layer(source)
        data = RoundingStatistics(layer, patches=10_000, held_out=10_000, seed=0)
        data.add(source, output, keep=False)
        data.add(source, output, keep=True)
        weight = layer.weight.reshape(data.groups, -1, data.width)
        plain = (
            output - layer.bias.reshape(-1, *[1] * (output.dim() - 2))
            if output.dim() > 3 or hasattr(layer, "kernel_size")
            else output - layer.bias
        )
        assert data.loss(weight, centred=False) == pytest.approx(float(plain.square().mean()), rel=1e-4)
        gram = data.gram(centred=False)
        energy = (weight @ gram * weight).sum() / weight.shape[0] / weight.shape[1]
        assert float(energy) == pytest.approx(float(plain.square().mean()), rel=1e-4)


def test_all_held_out_samples_judge() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    data = RoundingStatistics(layer, patches=1000, held_out=10, seed=0)
    with torch.no_grad():
        for number in range(4):
            # each sample is one constant, and twice that in its lower half
            source = torch.full((1, 1, 20, 20), 10.0**number)
            source[:, :, 10:] *= 2
            data.add(source, layer(source), keep=True)
        seen = torch.tensor([data.loss(torch.ones(1, 1, 1), centred=False)])
    assert data.count == 0
    # 10 patches of each of 4 samples, of which some are from each half
    assert 1e6 / 4 < float(seen) < 4 * 1.02e6 / 4


def test_a_recipe_corrects_biases_once() -> None:
    grid = WeightGrid(limit=63)
    recipe = Recipe(equalize=True, correct_bias=True, round_adaptively=True, float_layers=("head",))
    names = [step.name for step in float_corrections(recipe, grid)]
    assert names == ["equalize-cross-layer", "round-adaptively"]
    plain = replace(RoundAdaptively(grid, float_layers=("head",)), correct_bias=False)
    assert float_corrections(Recipe(round_adaptively=True, float_layers=("head",)), grid) == (plain,)
    assert [step.name for step in float_corrections(Recipe(correct_bias=True), grid)] == ["correct-bias"]
    assert float_corrections(Recipe(), grid) == ()
