"""The template backend through the real compile process: right, deterministic, and clear about what it refuses."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec.backends.example.backend import BACKEND
from edgec.backends.interface import Artifact
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import EdgecError, UnsupportedError
from edgec.ladder.compiler import ArtifactCompiler
from edgec.ladder.requests import CompileAnswer, CompileRequest, CompilerOptions
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import Array
from edgec.project.spec import CalibrationSpec, InputSpec, ModelSpec, Preprocess
from edgec.quant.ranges import choose_range
from edgec.quant.recipe import RANGE_METHODS, RangeMethod, Recipe
from edgec.quant.statistics import TensorStatistics
from edgec.target.load import load_target
from edgec.target.spec import Emit, Precision, Target
from edgec.workers.worker import Worker

CNN = """
from torch import nn
def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )
def other():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
def sequence():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4))
def dead():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(net[0].weight[0].data)
    net[0].bias.data[0] = 5.0
    return net
def odd():
    return nn.Sequential(
        nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=3), nn.MaxPool2d(3, 2, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(),
    )
def unbatched():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2))
def ceiling():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, ceil_mode=True))
def reflected():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"))
def coarse():
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
class Flattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(768, 4)
    def forward(self, x):
        return self.fc(x.flatten(1))
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x):
        return x + self.conv(x)
"""


IMAGE = (1, 3, 16, 16)


def target_of(precision: Precision, **emit: object) -> Target:
    target = load_target("rpi4-fp32", Path()).target
    made = Emit.model_validate({"backend": "example", **emit})
    return target.model_copy(update={"precision": precision, "emit": (made,)})


@dataclass
class Built:
    """A compiled model, its samples and the float outputs."""

    artifact: Artifact
    file: Path
    samples: Array
    wanted: Array

    def outputs(self) -> Array:
        runner = BACKEND.runner(self.artifact, self.file, "numpy", 1)
        return np.concatenate([next(iter(runner({"x": sample[None]}).values())) for sample in self.samples])

    def sqnr(self) -> float:
        return float(10 * np.log10((self.wanted**2).sum() / ((self.wanted - self.outputs()) ** 2).sum()))


def build(
    folder: Path,
    entry: str,
    precision: Precision,
    *,
    shape: tuple[int, ...] = IMAGE,
    weights: str = "per-channel",
    method: RangeMethod = "minmax",
    worker: bool = False,
) -> Built:
    """Compile an entry of `CNN`: in a worker process as a build does, or (quicker) the same task in this one."""
    folder.mkdir()
    (folder / "net.py").write_text(CNN)
    torch.manual_seed(0)
    model = load_model(ModelSpec(path=f"net.py:{entry}", inputs=(InputSpec(name="x", shape=shape),)), folder)
    store.save(model, folder / "model")
    samples = np.random.default_rng(0).normal(size=(40, *shape[1:])).astype(np.float32)
    np.save(folder / "samples.npy", samples)
    spool = write_spool(
        CalibrationSpec(data="samples.npy"), Preprocess(), model.inputs, folder / "spool", folder,
        samples=32, seed=0, what="calibration",
    )  # fmt: skip
    target = target_of(precision)
    target = target.model_copy(update={"quantize": target.quantize.model_copy(update={"weights": weights})})
    (folder / "work").mkdir()
    request = CompileRequest(
        model=folder / "model", recipe=Recipe(calibration=method), precision=precision, out=folder / "out"
    )
    options = CompilerOptions(target=target, emit=0, calibration=spool.folder, work=folder / "work", seed=0, threads=1)
    if worker:
        with Worker(log=folder / "log", what="example") as process:
            process.create("edgec.ladder.compiler:ArtifactCompiler", options)
            artifact = process.ask("compile", request, CompileAnswer).value.artifact
    else:
        artifact = ArtifactCompiler(options, lambda step: None).compile(request, lambda step: None).artifact
    module = model.module
    assert isinstance(module, nn.Module)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(samples)).numpy()
    return Built(artifact, folder / "out" / artifact.file, samples, wanted)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 90.0), ("int8", 25.0)])
def test_artifact_computes_the_float_model(precision: Precision, least: float, tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", precision, worker=True)
    assert built.sqnr() > least
    ops = BACKEND.runner(built.artifact, built.file, "numpy", 1).ops()
    assert {item.dtype for item in ops} == {"int8" if precision == "int8" else "float32"}
    assert [item.op for item in ops].count("conv2d") == 3
    assert not any(item.reason for item in ops)
    with np.load(built.file) as content:
        assert content["0.weight"].dtype == (np.int8 if precision == "int8" else np.float32)
    with zipfile.ZipFile(built.file) as archive:
        assert {item.date_time[0] for item in archive.infolist()} == {1980}
    again = build(tmp_path / "two", "net", precision)
    assert built.file.read_bytes() == again.file.read_bytes()


@pytest.mark.parametrize(
    ("entry", "shape"), [("sequence", (1, 4, 6)), ("dead", IMAGE), ("odd", (1, 3, 9, 11)), ("Flattened", IMAGE)]
)
def test_int8_stays_near_the_float_model(entry: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    assert build(tmp_path / "fp32", entry, "fp32", shape=shape).sqnr() > 90
    assert build(tmp_path / "int8", entry, "int8", shape=shape).sqnr() > 25


@pytest.mark.parametrize("method", RANGE_METHODS)
def test_ranges_of_every_method_reach_the_artifact(method: RangeMethod, tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", "int8", method=method)
    assert built.sqnr() > 12
    statistics = TensorStatistics(histogram=True)
    for sample in Spool(tmp_path / "one" / "spool"):
        statistics.observe(sample["x"])
    low, high = choose_range(statistics, method)
    with np.load(built.file) as content:
        first = json.loads(content["layers"].tobytes())[0]["input"]
    assert first["scale"] == pytest.approx((high - low) / 255, rel=1e-6)


def test_one_scale_a_channel_is_nearer_than_one_a_tensor(tmp_path: Path) -> None:
    channels = build(tmp_path / "channels", "net", "int8")
    tensor = build(tmp_path / "tensor", "net", "int8", weights="per-tensor")
    assert channels.sqnr() > tensor.sqnr() > 15


@pytest.mark.parametrize(
    ("entry", "shape", "layer", "word"),
    [
        ("other", IMAGE, "1", "Hardswish"),
        ("Residual", IMAGE, "add", "not a layer in a chain"),
        ("unbatched", (1, 8, 8), "0", r"Conv2d on shape \[1, 8, 8\]"),
        ("ceiling", IMAGE, "1", "ceil_mode=True"),
        ("reflected", IMAGE, "0", "reflect"),
        ("coarse", IMAGE, "0", "AdaptiveAvgPool2d"),
    ],
)
def test_what_it_has_no_layer_for_is_named(
    entry: str, shape: tuple[int, ...], layer: str, word: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match=word) as refused:
        build(tmp_path / "refused", entry, "fp32", shape=shape)
    assert refused.value.where == layer


def test_a_refusal_comes_through_the_worker(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="Hardswish"):
        build(tmp_path / "refused", "other", "int8", worker=True)


def test_targets_it_cannot_have_are_told_why() -> None:
    def reasons(target: Target) -> str:
        return "; ".join(BACKEND.reasons_against(target, target.emit[0]))

    assert reasons(target_of("fp32")) == reasons(target_of("int8", runtimes=("numpy",))) == ""
    assert "precision fp16" in reasons(target_of("fp16"))
    assert 'engine "fast"' in reasons(target_of("int8", engine="fast"))
    assert "runtimes: torch: " in reasons(target_of("int8", runtimes=("numpy", "torch")))


def test_an_int8_artifact_without_qparams_is_audited_as_float(tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", "fp32")
    claimed = built.artifact.model_copy(update={"precision": "int8"})
    ops = BACKEND.runner(claimed, built.file, "numpy", 1).ops()
    assert all(item.dtype == "float32" and item.reason for item in ops)


def test_another_file_is_refused(tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", "fp32")
    np.savez(tmp_path / "other.npz", layers=np.arange(3))
    (tmp_path / "short.npz").write_bytes(built.file.read_bytes()[:1000])
    for name in ("other.npz", "short.npz"):
        with pytest.raises(EdgecError, match="not a model of the example backend"):
            BACKEND.runner(built.artifact, tmp_path / name, "numpy", 1)
    with pytest.raises(UnsupportedError, match='"torch" does not run npz'):
        BACKEND.runner(built.artifact, built.file, "torch", 1)
