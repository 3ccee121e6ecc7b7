"""Calibration of small nets in batches: the statistics are those of samples one by one, or batches are not made."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn

from edgec.backends.torch_quant.batches import ELEMENTS, MOST, batch_size
from edgec.backends.torch_quant.collect import call_arguments, run_observed
from edgec.backends.torch_quant.lower import lower
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.observed import Observed, observe, silence_repeats
from edgec.errors import DatasetError
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.quant.statistics import TensorStatistics, elements_of_each

SHAPE = (1, 6, 8, 4)
COUNT = 45
"""Five batches after the first sample, and some left over."""


class Net(nn.Module):
    """A convolution, a sum with something, another convolution."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        self.scale = nn.Parameter(torch.rand(1, 6, 1, 1))
        self.between = between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        match self.between:
            case "fixed batch":
                x = x.reshape(1, 6, 4, 8)
            case "sequence first":
                x = x.transpose(0, 2).contiguous()
                x = torch.relu(x + x).transpose(0, 2)
            case "mixed samples":
                x = x * (1 + x.mean(0, keepdim=True))
            case "from weights":
                x = x + torch.relu(self.scale + self.scale)
            case "sum over samples":
                x = x + x.sum() * 0
            case "large":
                x = torch.relu(x + x).repeat(1, 1, 1, ELEMENTS // 192)
                x = torch.relu(x + x)
        answer: torch.Tensor = self.second(x)
        return answer


class Samples(list[dict[str, np.ndarray]]):
    """Calibration samples in memory: nothing but length and elements is asked of a spool here."""


def samples_of(count: int) -> Samples:
    random = np.random.default_rng(0)
    return Samples({"x": random.standard_normal(SHAPE).astype(np.float32) * (1 + at)} for at in range(count))


def model_of(between: str) -> TorchModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Net(between).eval()
    source = ModelSource(format="python", path="model.py", sha256="0" * 64)
    specs = (TensorSpec(name="x", shape=SHAPE),)
    with torch.no_grad():
        outputs = (TensorSpec(name="y", shape=tuple(module(torch.zeros(SHAPE)).shape)),)
    graph = fx.symbolic_trace(module)
    return lower(FloatModel("m", source, specs, outputs, graph=graph, module=module), "qnnpack", quantize=True)


def widths(observed: Observed) -> list[int]:
    """How many samples each call of the graph gets, from now on."""
    found: list[int] = []
    observed.graph.register_forward_pre_hook(lambda _, given: found.append(len(given[0])))
    return found


def test_samples_of_a_small_net_are_run_together_to_the_same_end():
    model, samples = model_of("nothing"), samples_of(COUNT)
    observed = observe(model)
    seen = widths(observed)
    kept = [0, 1, 9, 44]
    statistics, outputs = run_observed(model, observed, samples, 1, True, kept)
    assert seen[-6:] == [MOST] * 5 + [COUNT - 1 - 5 * MOST]
    assert sum(seen) <= COUNT + 4
    alone = run_alone(model, samples)
    for name, item in statistics.items():
        assert (item.samples, item.elements) == (alone[name].samples, alone[name].elements)
        for ends in ("low", "high"):
            assert getattr(item, ends) == pytest.approx(getattr(alone[name], ends), rel=1e-5)
        assert item.average_highs[0] == pytest.approx(alone[name].average_highs[0], rel=1e-5)
        difference = np.abs(item.histograms.counts - alone[name].histograms.counts).sum()
        assert difference <= 0.001 * item.histograms.counts.sum()
    for index in kept:
        with torch.no_grad():
            expected = model.graph(torch.from_numpy(samples[index]["x"]))
        assert [item.shape for item in outputs[index]] == [expected.shape]
        torch.testing.assert_close(outputs[index][0], expected, rtol=1e-4, atol=1e-4)


def run_alone(model, samples):
    """Statistics of samples that come one at a time."""
    observed = observe(model)
    silence_repeats(observed)
    found = {}
    for observer, names in observed.sources:
        observer.statistics = TensorStatistics(True, most=elements_of_each(len(samples)))
        found.update(dict.fromkeys(names, observer.statistics))
    with torch.no_grad():
        for sample in samples:
            observed.graph(*call_arguments(model, sample))
    return found


@pytest.mark.parametrize(
    "between", ["fixed batch", "sequence first", "mixed samples", "from weights", "sum over samples", "large"]
)
def test_what_takes_no_batches_is_run_one_by_one(between, capsys):
    model, samples = model_of(between), samples_of(COUNT)
    observed = observe(model)
    seen = widths(observed)
    statistics, _ = run_observed(model, observed, samples, 1, True)
    assert seen[-COUNT + 1 :] == [1] * (COUNT - 1)
    alone = run_alone(model, samples)
    for name, item in statistics.items():
        assert (item.samples, item.low, item.high) == (alone[name].samples, alone[name].low, alone[name].high)
        np.testing.assert_array_equal(item.histograms.counts, alone[name].histograms.counts)
    assert "".join(capsys.readouterr()) == "", "torch tells of a graph that fails"


def test_the_trial_leaves_no_trace():
    model, samples = model_of("nothing"), samples_of(COUNT)
    observed = observe(model)
    for observer, _ in observed.sources:
        observer.statistics = TensorStatistics(False)

    def arguments(indices):
        return [torch.cat([torch.from_numpy(samples[index]["x"]) for index in indices])]

    with torch.no_grad():
        assert batch_size(observed, samples, arguments) == 1, "nothing was seen, so no tensor's size is known"
        observed.graph(*arguments([0]))
        before = [(observer.statistics, observer.statistics.samples) for observer, _ in observed.sources]
        assert batch_size(observed, samples, arguments) == MOST
        assert batch_size(observed, samples[:MOST], arguments) == 1, "not worth it"
        assert batch_size(observed, Samples([samples[0]] * COUNT), lambda at: arguments([0] * len(at))) == 1
    assert [(observer.statistics, observer.statistics.samples) for observer, _ in observed.sources] == before
    assert not any(observer._forward_hooks for observer, _ in observed.sources)


@pytest.mark.parametrize("bad", [0, 1, 21, COUNT - 1])
def test_a_sample_with_nan_is_named(bad):
    model, samples = model_of("nothing"), samples_of(COUNT)
    samples[bad]["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(DatasetError, match="calibration met NaN") as raised:
        run_observed(model, observe(model), samples, 1, False)
    assert raised.value.where == f"m, calibration sample {bad}"
