"""Equalization keeps the function, and makes channels of very different ranges fit one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgec.model.fingerprint import fingerprint
from edgec.model.outputs import tensors_of
from edgec.model.samples import sample_arrays
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext
from edgec.passes.equalize_cross_layer import EqualizeCrossLayer
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes

Calibrated = Callable[..., PassContext]


class Residual(nn.Module):
    """A block whose input is read twice, with a depthwise layer, a mean and a shared activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.expand, self.depth = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.project, self.act = nn.Conv2d(16, 8, 1), nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        x = x + self.project(self.act(self.depth(self.act(self.expand(x)))))
        return self.head(x.mean((2, 3)))


class Twice(nn.Module):
    """One layer called twice, and one whose output is returned too."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.left, self.right = nn.Linear(6, 6), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.left(functional.relu(self.shared(functional.relu(self.shared(x)))))
        return y, self.right(functional.relu(y))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "residual": (Residual, (1, 3, 12, 12), 2),
    "twice": (Twice, (1, 6), 0),
    "flattened": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 25, 7), nn.LeakyReLU(),
            nn.Dropout(0.1), nn.Linear(7, 3),
        ),
        (1, 3, 12, 12),
        2,
    ),
    "grouped": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 12, 3, groups=4), nn.ReLU(), nn.AvgPool1d(2),
            nn.Conv1d(12, 6, 1),
        ),
        (1, 4, 20),
        2,
    ),
    "transposed": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2),
            nn.ReLU(), nn.Conv2d(4, 3, 1),
        ),
        (1, 4, 5, 5),
        2,
    ),
    "sequence": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), (1, 9, 6), 1),
    "curved": (lambda: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4)), (1, 6), 0),
}  # fmt: skip


def _uneven(model: FloatModel) -> FloatModel:
    """Channels' weights of very different size."""
    source = torch.Generator().manual_seed(3)
    assert model.graph is not None
    with torch.no_grad():
        for value in model.graph.parameters():
            if value.dim() > 1:
                value *= 10 ** (2 * torch.rand(len(value), *[1] * (value.dim() - 1), generator=source) - 1)
    return model


def _arrays(model: FloatModel, count: int) -> list[np.ndarray[Any, Any]]:
    return [np.stack(rows) for rows in zip(*(sample_arrays(model.inputs, seed) for seed in range(count)), strict=True)]


@pytest.mark.parametrize("name", NETS)
def test_function_is_kept(wrap: Any, calibrated: Calibrated, name: str) -> None:
    make, shape, pairs = NETS[name]
    torch.manual_seed(0)
    model = wrap(make(), shape)
    ctx = calibrated(model, *_arrays(model, 6))
    model, _ = run_passes(portable_passes(), _uneven(model), ctx, fingerprint)
    (result, (record,)) = run_passes((EqualizeCrossLayer(),), model, ctx, fingerprint)
    assert record.summary == f"equalized {pairs} of {pairs} pairs of layers"
    assert record.state == ("changed" if pairs else "unchanged")
    sample = [torch.from_numpy(array) for array in sample_arrays(model.inputs, 99)]
    with torch.no_grad():
        for ours, theirs in zip(tensors_of(result.graph(*sample)), tensors_of(model.graph(*sample)), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def _one_scale(value: torch.Tensor) -> torch.Tensor:
    step = value.abs().max() / 127
    return (value / step).round() * step


def _int8_sqnr(model: FloatModel, sample: torch.Tensor) -> float:
    """SQNR in dB of the output when all weights and activations are int8 with one scale a tensor."""
    assert model.graph is not None
    exact = model.graph(sample)
    value = sample
    for part in model.graph.children():
        with torch.no_grad():
            if hasattr(part, "weight"):
                value = torch.func.functional_call(
                    part, {"weight": _one_scale(part.weight), "bias": part.bias}, (value,)
                )
            else:
                value = _one_scale(part(value))
    return float(10 * torch.log10(exact.square().sum() / (exact - value).square().sum()))


def test_a_thousandfold_range_of_depthwise_channels_is_rescued(wrap: Any, calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(),
        nn.Conv2d(16, 8, 1),
    )  # fmt: skip
    with torch.no_grad():
        spans = torch.logspace(0, 3, 16)
        net[2].weight *= spans.reshape(-1, 1, 1, 1)
        net[2].bias *= spans
        net[4].weight /= spans.reshape(1, -1, 1, 1)
    model = wrap(net, (1, 3, 16, 16))
    ctx = calibrated(model, *_arrays(model, 8))
    result = EqualizeCrossLayer().run(model, ctx).model
    sample = torch.from_numpy(sample_arrays(model.inputs, 99)[0])
    with torch.no_grad():
        before, after = _int8_sqnr(model, sample), _int8_sqnr(result, sample)
    assert after > before + 10
    assert after > 25


def test_a_dead_channel_does_not_outgrow_the_others(wrap: Any, calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    with torch.no_grad():
        net[0].weight[2] = 0.0
        net[0].weight[5] *= 1e-9
        net[0].bias[5] = 0.5
        net[2].weight[:, 6] = 0.0
    model = wrap(net, (1, 3, 8, 8))
    ctx = calibrated(model, *_arrays(model, 4))
    result = EqualizeCrossLayer().run(model, ctx).model
    sample = torch.from_numpy(sample_arrays(model.inputs, 1)[0])
    with torch.no_grad():
        before, after = (graph.get_submodule("0")(sample).relu().max() for graph in (model.graph, result.graph))
    assert after <= 1.5 * before
    assert all(bool(value.isfinite().all()) for value in result.graph.parameters())


@pytest.mark.parametrize(("gain", "equalized"), [(0.1, True), (4.0, False)])
def test_relu6_goes_only_where_its_limit_is_never_reached(
    wrap: Any, calibrated: Calibrated, gain: float, equalized: bool
) -> None:
    torch.manual_seed(0)
    model = _uneven(wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 4)), (1, 6)))
    scale = gain * 6 / float(model.graph.get_submodule("0").weight.detach().abs().max())
    ctx = calibrated(model, *(scale * array for array in _arrays(model, 8)))
    result = EqualizeCrossLayer().run(model, ctx)
    kinds = {type(part) for part in result.model.graph.children()}
    assert (nn.ReLU in kinds, nn.ReLU6 in kinds) == (equalized, not equalized)
    (told,) = result.coverage
    assert told.state == ("ReLU" if equalized else "not equalized")
    assert "limit" in told.reason


@pytest.mark.parametrize("outlier", [50.0, float("nan")])
def test_one_sample_of_many_that_comes_to_the_limit_keeps_relu6(
    wrap: Any, calibrated: Calibrated, outlier: float
) -> None:
    torch.manual_seed(0)
    model = wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 4)), (1, 6))
    with torch.no_grad():
        model.graph.get_submodule("0").weight[3] *= 4
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 1, 6)).astype(np.float32)
    free = EqualizeCrossLayer().run(model, calibrated(model, samples))
    assert "none of the 80 calibration samples" in free.coverage[0].reason
    samples[41] = outlier
    kept = EqualizeCrossLayer().run(model, calibrated(model, samples))
    assert any(isinstance(part, nn.ReLU6) for part in kept.model.graph.children())
    assert [item.state for item in kept.coverage] == ["not equalized"]


def test_relu6_stays_between_layers_that_are_equal_already(wrap: Any, calibrated: Calibrated) -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 4))
    for place in (0, 2):
        nn.init.constant_(net[place].weight, 0.01)
    model = wrap(net, (1, 6))
    result = EqualizeCrossLayer().run(model, calibrated(model, *_arrays(model, 4)))
    assert result.summary == "equalized 0 of 1 pairs of layers"
    assert result.coverage == ()
    assert any(isinstance(part, nn.ReLU6) for part in result.model.graph.children())


def test_linear_layers_without_a_batch_axis(wrap: Any, calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    model = _uneven(wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)), (6,)))
    result = EqualizeCrossLayer().run(model, calibrated(model, *_arrays(model, 4)))
    assert result.summary == "equalized 1 of 1 pairs of layers"


def test_without_samples_relu6_stays_and_the_rest_is_equalized(wrap: Any, ctx: PassContext) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 4))
    result = EqualizeCrossLayer().run(_uneven(wrap(net, (1, 6))), ctx)
    assert result.summary == "equalized 1 of 1 pairs of layers"
    assert [item.state for item in result.coverage] == ["not equalized"]


def test_a_model_without_graph_is_skipped_with_the_reason(wrap: Any, ctx: PassContext) -> None:
    model = replace(wrap(nn.Linear(4, 2), (1, 4)), graph=None, untraceable="net.py:3: branches on data")
    result, (record,) = run_passes((EqualizeCrossLayer(),), model, ctx, lambda _: "0")
    assert result is model
    assert record.coverage[0].reason == "the model has no graph: net.py:3: branches on data"


def test_an_onnx_file_of_the_model_is_given_up(wrap: Any, ctx: PassContext, tmp_path: Any) -> None:
    model = replace(wrap(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), (1, 4)), onnx=tmp_path / "model.onnx")
    assert EqualizeCrossLayer().run(model, ctx).model.onnx is None
