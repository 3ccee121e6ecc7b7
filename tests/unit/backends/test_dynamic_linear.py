"""Encoders in int8 whose linear layers quantize their inputs as they run, in the real runtimes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder import make_encoder, sentences
from torch import nn

from edgec.backends.interface import Artifact, OpRecord, Runner
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool, write_index
from edgec.model import store
from edgec.model.samples import sample_tensors
from edgec.model.spec import Array, FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.passes.contract import PassContext
from edgec.passes.coverage import Coverage
from edgec.passes.float_corrections import float_corrections
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.target.spec import Precision

DYNAMIC = Recipe(linear="dynamic", smooth=True)
TARGETS = {"onnxruntime": "x86-64-int8", "fbgemm": "x86-64-int8", "qnnpack": "rpi4-int8"}


NAMES = ["onnxruntime", pytest.param("fbgemm", marks=pytest.mark.slow), "qnnpack"]
"""By default without fbgemm, whose lowering qnnpack shares."""


@dataclass
class Made:
    """An artifact, loaded."""

    artifact: Artifact
    coverage: list[Coverage]
    runner: Runner

    def outputs(self, samples: Array) -> Array:
        """First output for each sample."""
        return np.concatenate([next(iter(self.runner({"x0": item[None]}).values())) for item in samples])

    def products(self, dtype: str) -> list[OpRecord]:
        """Ops that multiply matrices in `dtype`."""
        parts = ("MatMul", "Gemm", "linear", "Conv", "conv")
        return [op for op in self.runner.ops() if op.dtype == dtype and any(part in op.op for part in parts)]


class Maker:
    """Makes artifacts of one module."""

    def __init__(self, module: nn.Module, calibration: Array, folder: Path) -> None:
        torch.set_num_threads(1)
        self.folder = folder
        dtype: Any = str(calibration.dtype)
        inputs = (TensorSpec(name="x0", shape=(1, *calibration.shape[1:]), dtype=dtype),)
        sample = [torch.from_numpy(calibration[:1])]
        with torch.no_grad():
            shape = tuple(module.eval()(*sample).shape)
        traced = trace(module, tuple(sample), sample_tensors(inputs, seed=1))
        source = ModelSource(format="python", path="net.py", sha256="0" * 64, entry="make")
        outputs = (TensorSpec(name="y", shape=shape),)
        model = FloatModel("net", source, inputs, outputs, graph=traced.graph, module=traced.graph)
        spool = folder / "spool"
        spool.mkdir(parents=True)
        count = len(calibration)
        np.save(spool / "0.npy", calibration[:, None])
        np.save(spool / "digests.npy", np.zeros((count, 32), np.uint8))
        np.save(spool / "indices.npy", np.arange(count))
        digests = [index.to_bytes(32, "little") for index in range(count)]
        write_index(spool, inputs, digests=digests, indices=range(count), labels=None, origin="made up", notes=())
        self.spool = Spool(spool)
        ctx = PassContext(load_target("rpi4-fp32", folder).target, folder)
        self.model, _ = run_passes(portable_passes(), model, ctx, store.fingerprint)

    def linear_layers(self, name: str) -> list[str]:
        """Their names in a backend."""
        target = load_target(TARGETS[name], self.folder).target
        backend, emit = get_backend(name), next(item for item in target.emit if item.backend == name)
        lowered = backend.lower(self.model, PassContext(target, self.folder / "lowered", self.spool, 0, 1, emit))
        return [layer.name for layer in backend.layers(lowered) if layer.op == "linear"]

    def make(self, name: str, recipe: Recipe, precision: Precision = "int8") -> Made:
        """The artifact of a recipe."""
        target = load_target(TARGETS[name], self.folder).target.model_copy(update={"precision": precision})
        backend, emit = get_backend(name), next(item for item in target.emit if item.backend == name)
        work = self.folder / f"{name}-{precision}-{recipe.linear}-{recipe.smooth}-{len(recipe.float_layers)}"
        work.mkdir()
        ctx = PassContext(target, work, self.spool, 0, 1, emit)
        steps = float_corrections(recipe, backend.weight_grid(target, emit))
        corrected, _ = run_passes(steps, self.model, ctx, store.fingerprint)
        lowered = backend.lower(corrected, ctx)
        quantized, records = run_passes(backend.passes(target, emit, recipe), lowered, ctx, backend.fingerprint)
        artifact = backend.emit(quantized, ctx, work / "out")
        runtime = backend.runtimes(target, emit)[0].name
        runner = backend.runner(artifact, work / "out" / artifact.file, runtime, 1)
        return Made(artifact, [item for record in records for item in record.coverage], runner)


def cosines(ours: Array, theirs: Array) -> Array:
    """Of each row."""
    found: Array = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Maker, Array, Array]]:
    """Two layers; held-out sentences, and what the float model makes of them."""
    model = make_encoder(2, 64, 4, words=500, length=32)
    maker = Maker(model, sentences(24, 500, 32), tmp_path_factory.mktemp("small"))
    held = sentences(24, 500, 32, seed=1)
    with torch.no_grad():
        yield maker, held, model(torch.from_numpy(held)).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_linear_layers_are_int8_and_what_stands_between_them_float(
    name: str, small: tuple[Maker, Array, Array]
) -> None:
    maker, held, reference = small
    made = maker.make(name, DYNAMIC)
    assert made.artifact.precision == "int8"
    assert len(made.products("int8")) == 12
    told = [item for item in made.coverage if item.state == "int8-dynamic"]
    assert len(told) == 12
    assert all("as the model runs" in item.reason for item in told)
    dynamic = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "quantized::linear_dynamic")
    assert {op.op for op in made.runner.ops() if op.dtype == "int8"} <= {*dynamic}
    static = cosines(maker.make(name, Recipe()).outputs(held), reference)
    found = cosines(made.outputs(held), reference)
    assert found.min() > 0.995
    assert 1 - found.mean() < (1 - static.mean()) / 4


@pytest.mark.parametrize("name", NAMES)
def test_layers_that_the_recipe_keeps_in_float_are_not_dynamic(name: str, small: tuple[Maker, Array, Array]) -> None:
    maker, _, _ = small
    found = maker.linear_layers(name)
    assert len(found) == 12
    kept = tuple(sorted((found[5], found[8])))
    made = maker.make(name, DYNAMIC.model_copy(update={"float_layers": kept}))
    assert len(made.products("int8")) == 10
    subjects = {item.subject: item.state for item in made.coverage}
    assert [subjects[layer] for layer in kept] == ["float32", "float32"]


class Mixed(nn.Module):
    """Convolutions before and a classifier after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.wide, self.head = nn.Linear(8, 32), nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x + self.second(x)
        return self.head(torch.relu(self.wide(x.mean((2, 3)))))


@pytest.mark.parametrize("name", NAMES)
def test_convolutions_stay_static(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Mixed()
    samples = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
    made = Maker(module, samples, tmp_path).make(name, Recipe(linear="dynamic"))
    found = [op.op for op in made.products("int8")]
    dynamic = [op for op in found if "ynamic" in op or "Float" in op]
    assert (len(found), len(dynamic)) == (4, 2)
    with torch.no_grad():
        reference = module(torch.from_numpy(samples)).numpy()
    noise = ((made.outputs(samples) - reference) ** 2).sum()
    assert 10 * np.log10((reference**2).sum() / noise) > 25


@pytest.mark.parametrize("name", ["tflite", "example"])
def test_backends_without_such_kernels_say_so(name: str) -> None:
    target = load_target("rpi4-int8", Path()).target
    (reason,) = get_backend(name).reasons_against_recipe(target, target.emit[0], Recipe(linear="dynamic"))
    assert "dynamic" in reason


def linear_macs(made: Made, layers: list[str]) -> float:
    """Share of the linear layers' multiplications that are in int8, by the layers that the runtime names."""
    integer = {op.layer for op in made.products("int8")}
    sizes = {layer: 4 if {"up", "down"} & {*re.split(r"[._]", layer)} else 1 for layer in layers}
    return sum(size for layer, size in sizes.items() if layer in integer) / sum(sizes.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnxruntime", "fbgemm"])
def test_an_encoder_of_the_size_of_minilm(name: str, tmp_path: Path) -> None:
    model = make_encoder(6, 384, 12, words=30522)
    maker = Maker(model, sentences(48, 30522), tmp_path)
    began = time.process_time()
    made = maker.make(name, DYNAMIC)
    assert time.process_time() - began < 120
    held = sentences(32, 30522, seed=1)
    with torch.no_grad():
        reference = torch.cat([model(torch.from_numpy(item[None])) for item in held]).numpy()
    assert cosines(made.outputs(held), reference).min() >= 0.99
    assert linear_macs(made, maker.linear_layers(name)) >= 0.9
    twin = maker.make(name, Recipe(), "fp32")
    assert median_ratio(lambda: twin.outputs(held[:1]), lambda: made.outputs(held[:1])) > 1.2


def median_ratio(slow: Callable[[], object], fast: Callable[[], object]) -> float:
    """How many times the processor time of `fast` `slow` takes, in turns."""
    ratios = []
    for _ in range(15):
        first = time.process_time()
        slow()
        second = time.process_time()
        fast()
        ratios.append((second - first) / (time.process_time() - second))
    return float(np.median(ratios))
