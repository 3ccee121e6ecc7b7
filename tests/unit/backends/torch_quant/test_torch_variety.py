"""Nets of all kinds of ops: one op never fails an artifact, and what is left out of int8 is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from op_nets import NETS, Net

from edgec.backends.interface import Artifact, OpRecord
from edgec.backends.registry import get_backend
from edgec.backends.torch_quant.audit import FLOAT
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.errors import UnsupportedError
from edgec.model.fingerprint import fingerprint
from edgec.model.outputs import tensors_of
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import trace
from edgec.passes.contract import PassContext
from edgec.passes.portable import portable_passes
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.spec import Target

MakeTarget = Callable[..., Target]
SAMPLES = 4
LEAST_DB = {"fp32": 100.0, "fp16": 45.0, "int8": 15.0, "int8-dynamic": 15.0}
"""SQNR that the worst output must have; a net of comparisons and roundings has 19 dB in int8."""
QUICK = (
    *("bool mask", "half", "int64 arithmetic", "cat of dtypes", "comparison times", "prelu one", "prelu channels"),
    *("clamp both", "clamp high", "clamp tensors", "conv circular", "dynamic conv", "unbind", "bicubic", "nearest 1d"),
    *("scalars", "functional norm layers", "in place", "0-d input", "input as output", "constant output", "lstm cell"),
)
NOT_INT8 = {"conv1d unbatched", "linear 1d", "state first"}
"""Nets of which torch's kernels can take nothing."""
NOT_INT8_ON_ARM = {"conv3d", "conv transpose 3d", "pool 3d"}
DYNAMIC = {torch.nn.Linear, torch.nn.LSTM, torch.nn.GRU, torch.nn.MultiheadAttention}
UNTRACEABLE = {"pool indices"}
"""torch.jit.trace fails on max_unpool2d."""


def _specs(names: list[str], tensors: list[torch.Tensor]) -> tuple[TensorSpec, ...]:
    dtypes = [str(item.dtype).removeprefix("torch.") for item in tensors]
    shapes = [tuple(item.shape) for item in tensors]
    return tuple(
        TensorSpec(name=name, shape=shape, dtype=dtype)  # type: ignore[arg-type]
        for name, shape, dtype in zip(names, shapes, dtypes, strict=True)
    )


def _build(net: Net, target: Target, folder: Path) -> tuple[Artifact, list[float], tuple[OpRecord, ...]]:
    """The artifact of a net, the SQNR of each of its outputs, and its ops."""
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = net.make().eval()
    samples = [net.draw(seed) for seed in range(SAMPLES)]
    with torch.no_grad():
        expected = [
            [item.detach() for item in tensors_of(module(*[one.clone() for one in sample]))] for sample in samples
        ]
    traced = trace(module, samples[0], samples[1])
    assert traced.graph is not None, traced.untraceable
    names = [node.name for node in traced.graph.graph.nodes if node.op == "placeholder"]
    outputs = _specs([f"output_{place}" for place in range(len(expected[0]))], expected[0])
    source = ModelSource(format="python", path="net.py", sha256="0" * 64)
    model = FloatModel("net", source, _specs(names, list(samples[0])), outputs, traced.graph, module=traced.graph)
    (folder / "spool").mkdir()
    for place in range(len(names)):
        np.save(folder / "spool" / f"{place}.npy", np.stack([sample[place].numpy() for sample in samples]))
    info = SpoolInfo(inputs=model.inputs, samples=SAMPLES, has_labels=False, content_digest="0" * 64, origin="test")
    (folder / "spool" / "spool.json").write_text(info.model_dump_json())
    emit = target.emit[0]
    ctx = PassContext(target=target, work=folder, calibration=Spool(folder / "spool"), emit=emit)
    backend = get_backend(emit.backend)
    model, _ = run_passes(portable_passes(), model, ctx, fingerprint)
    steps = backend.passes(target, emit, Recipe())
    lowered, _ = run_passes(steps, backend.lower(model, ctx), ctx, backend.fingerprint)
    artifact = backend.emit(lowered, ctx, folder / "out")
    runner = backend.runner(artifact, folder / "out" / artifact.file, "torch", 1)
    given = [runner(dict(zip(names, [item.numpy() for item in sample], strict=True))) for sample in samples]
    return artifact, [_sqnr_db(expected, given, place) for place in range(len(outputs))], tuple(runner.ops())


def _sqnr_db(expected: list[list[torch.Tensor]], given: list[dict[str, np.ndarray]], place: int) -> float:  # type: ignore[type-arg]
    exact = np.stack([row[place].numpy() for row in expected]).astype(np.float64)
    found = np.stack([row[f"output_{place}"] for row in given])
    assert found.shape == exact.shape
    noise = float(((exact - found) ** 2).sum())
    return float(10 * np.log10(float((exact**2).sum()) / noise)) if noise else np.inf


def _check(name: str, target: Target, folder: Path) -> tuple[Artifact, tuple[OpRecord, ...]]:
    artifact, decibels, ops = _build(NETS[name], target, folder)
    assert min(decibels) >= LEAST_DB[target.precision]
    return artifact, ops


@pytest.mark.parametrize("name", QUICK)
def test_what_int8_cannot_take_stays_float_and_is_told(name: str, make_target: MakeTarget, tmp_path: Path) -> None:
    artifact, ops = _check(name, make_target("qnnpack"), tmp_path)
    assert any(op.dtype == "int8" for op in ops)
    told = {item.reason for item in artifact.coverage}
    assert all(op.reason in told or f"{op.op}: {op.reason}" in told for op in ops if op.reason)


def test_only_float32_tensors_are_quantized(make_target: MakeTarget, tmp_path: Path) -> None:
    artifact, _ = _check("comparison times", make_target("qnnpack"), tmp_path)
    reason = f"{FLOAT}: torch quantizes float32 tensors only, and one of bool is read or made here"
    assert reason in {item.reason for item in artifact.coverage}


@pytest.mark.parametrize("name", ["softmax output", "sigmoid output", "log of sigmoid"])
def test_an_output_has_no_fixed_step(name: str, make_target: MakeTarget, tmp_path: Path) -> None:
    artifact, _ = _check(name, make_target("qnnpack"), tmp_path)
    assert artifact.outputs[0].step is None
    assert any("fixed step" in item.reason for item in artifact.coverage) or name == "softmax output"


@pytest.mark.parametrize("name", ["conv transpose groups", "pool 3d", "conv3d", "half"])
def test_engines_of_x86(name: str, make_target: MakeTarget, tmp_path: Path) -> None:
    _check(name, make_target("fbgemm", engine="auto"), tmp_path)


@pytest.mark.parametrize("name", sorted(NOT_INT8))
def test_nothing_to_quantize_is_refused_with_reasons(name: str, make_target: MakeTarget, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="nothing of the model can be computed in int8"):
        _check(name, make_target("qnnpack"), tmp_path)


@pytest.mark.families
@pytest.mark.parametrize("precision", LEAST_DB)
@pytest.mark.parametrize("backend", ["qnnpack", "fbgemm"])
@pytest.mark.parametrize("name", NETS)
def test_every_net(name: str, backend: str, precision: str, make_target: MakeTarget, tmp_path: Path) -> None:
    nothing = name in NOT_INT8 | (NOT_INT8_ON_ARM if backend == "qnnpack" else set())
    target = make_target(backend, precision)
    if name in UNTRACEABLE or (precision == "int8" and nothing):
        with pytest.raises(UnsupportedError):
            _check(name, target, tmp_path)
    elif precision == "int8-dynamic" and not DYNAMIC & {type(part) for part in NETS[name].make().modules()}:
        with pytest.raises(UnsupportedError, match="nothing of the model"):
            _check(name, target, tmp_path)
    else:
        _check(name, target, tmp_path)
