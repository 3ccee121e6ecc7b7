"""Masks written by hand: what makes softmax's argument, and what 8 bits cannot hold, stays in float with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgec.backends.torch_quant.audit import RANGE, SOFTMAX
from edgec.backends.torch_quant.collect import CollectRanges
from edgec.backends.torch_quant.lower import lower
from edgec.backends.torch_quant.passes import QuantizeDynamic
from edgec.backends.torch_quant.quantize import QuantizeStatic
from edgec.dataset.spool import Spool
from edgec.errors import DatasetError, UnsupportedError
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import PassContext, PassResult
from edgec.target.spec import Target

MakeTarget = Callable[..., Target]
SPECS = (TensorSpec(name="x", shape=(1, 6, 16)),)


class Samples(list[dict[str, Any]]):
    """Calibration samples in memory: nothing but length and elements is asked of a spool here."""


class Masked(nn.Module):
    """Causal attention in separate steps, with a mask that is added."""

    def __init__(self, hidden: float, shaped: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 4)
        self.shaped = shaped
        self.register_buffer("mask", torch.zeros(6, 6).masked_fill(torch.ones(6, 6).triu(1) == 1, hidden))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.matmul(self.query(x), self.key(x).transpose(1, 2)) / 4.0
        shape = (1, 1, 6, 6) if self.shaped else (1, 6, 6)
        scores = (scores.reshape(shape) + self.mask).reshape(1, 6, 6)
        answer: torch.Tensor = self.head(torch.matmul(scores.softmax(-1), self.value(x)))
        return answer


class Hidden(nn.Module):
    """A sum with -inf in it, far from any softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.head = nn.Linear(16, 16), nn.Linear(16, 4)
        self.register_buffer("mask", torch.tensor([0.0] * 12 + [float("-inf")] * 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head((self.before(x) + self.mask).clamp(min=0.0))
        return answer


def quantized(
    module: nn.Module, target: Target, samples: list[torch.Tensor], method: Any = "minmax"
) -> tuple[PassResult[Any], float]:
    """The quantized model, and its signal to noise ratio in dB."""
    source = ModelSource(format="python", path="model.py", sha256="0" * 64)
    outputs = (TensorSpec(name="y", shape=(1, 6, 4)),)
    graph = fx.symbolic_trace(module.eval())
    model = lower(FloatModel("m", source, SPECS, outputs, graph=graph, module=module), "qnnpack", quantize=True)
    spool: Any = Samples({"x": sample.numpy()} for sample in samples)
    assert not isinstance(spool, Spool)
    context = replace(PassContext(target=target, work=Path(), emit=target.emit[0]), calibration=spool)
    observed = CollectRanges(histogram=method != "minmax").run(model, context).model
    result = QuantizeStatic(method).run(observed, context)
    wanted, found = module(samples[0]).detach(), result.model.graph(samples[0]).detach()
    return result, 10 * float(torch.log10(wanted.square().sum() / (wanted - found).square().sum()))


def draw(count: int = 8) -> list[torch.Tensor]:
    random = np.random.default_rng(0)
    return [torch.from_numpy(random.standard_normal((1, 6, 16)).astype(np.float32)) for _ in range(count)]


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


@pytest.mark.parametrize("hidden", [float("-inf"), -1e9, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("shaped", [False, True])
def test_added_masks_leave_the_scores_alone(make_target: MakeTarget, hidden: float, shaped: bool) -> None:
    result, sqnr = quantized(seeded(lambda: Masked(hidden, shaped)), make_target("qnnpack"), draw())
    assert sqnr > 30  # with the sum in int8 -inf was refused, and -1e9 gave 17 dB
    assert [(item.subject, item.reason) for item in result.coverage] == [("add", SOFTMAX)]
    integer = [str(node.target) for node in result.model.graph.graph.nodes if "quantized" in str(node.target)]
    assert len(integer) == 2  # both matrix products


def test_the_artifact_tells_why_the_sum_is_in_float(make_target: MakeTarget, tmp_path: Path) -> None:
    from edgec.backends.registry import get_backend

    target = make_target("qnnpack")
    result, _ = quantized(seeded(lambda: Masked(-1e9, True)), target, draw())
    backend = get_backend("qnnpack")
    artifact = backend.emit(result.model, PassContext(target=target, work=tmp_path, emit=target.emit[0]), tmp_path)
    assert ("add", SOFTMAX) in {(item.subject, item.reason) for item in artifact.coverage}


@pytest.mark.parametrize("method", ["minmax", "mse"])
def test_what_is_not_finite_stays_in_float(make_target: MakeTarget, method: str) -> None:
    result, sqnr = quantized(seeded(Hidden), make_target("qnnpack"), draw(), method)
    assert sqnr > 25
    assert ("add", RANGE) in [(item.subject, item.reason) for item in result.coverage]


def test_a_sample_whose_answer_is_nan_is_refused(make_target: MakeTarget) -> None:
    samples = draw(3)
    samples[1][0, 2, 5] = float("nan")
    with pytest.raises(DatasetError, match="NaN") as caught:
        quantized(seeded(lambda: Masked(-1e9, False)), make_target("qnnpack"), samples)
    assert "sample 1" in str(caught.value.where)


def test_dynamic_int8_without_anything_to_quantize_is_refused(ready: Any, make_target: MakeTarget) -> None:
    target = make_target("qnnpack", "int8-dynamic")
    model = ready("upscale", target).lowered
    with pytest.raises(UnsupportedError, match="nothing of the model"):
        QuantizeDynamic().run(model, PassContext(target=target, work=Path(), emit=target.emit[0]))


def test_dynamic_int8_tells_what_stays_in_float(ready: Any, make_target: MakeTarget) -> None:
    target = make_target("qnnpack", "int8-dynamic")
    model = ready("vision", target).lowered
    context = PassContext(target=target, work=Path(), emit=target.emit[0])
    result = QuantizeDynamic().run(model, context)
    assert {item.subject for item in result.coverage} == {"stem.0", "depthwise.0", "pointwise.0"}
    assert QuantizeDynamic().ensures(result.model, context) is None
    assert QuantizeDynamic().ensures(model, context)
