"""The template backend through the real compile process: right, deterministic, and clear about what it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec.backend.protocol import Artifact
from edgec.backends.example.backend import BACKEND
from edgec.dataset.write import write_spool
from edgec.errors import EdgecError, UnsupportedError
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import Array
from edgec.project.spec import CalibrationSpec, InputSpec, ModelSpec, Preprocess
from edgec.target.load import load_target
from edgec.target.spec import Emit, Precision
from edgec.worker import call

CNN = """
from torch import nn
def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )
def other():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x):
        return x + self.conv(x)
"""


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


def build(folder: Path, entry: str, precision: Precision, **quantize: str) -> Built:
    folder.mkdir()
    (folder / "net.py").write_text(CNN)
    torch.manual_seed(0)
    model = load_model(ModelSpec(path=f"net.py:{entry}", inputs=(InputSpec(name="x", shape=(1, 3, 16, 16)),)), folder)
    store.save(model, folder / "model")
    samples = np.random.default_rng(0).normal(size=(40, 3, 16, 16)).astype(np.float32)
    np.save(folder / "samples.npy", samples)
    spool = write_spool(
        CalibrationSpec(data="samples.npy"), Preprocess(), model.inputs, folder / "spool", folder,
        samples=32, seed=0, what="calibration",
    )  # fmt: skip
    target = load_target("rpi4-fp32", folder).target.model_copy(
        update={"precision": precision, "emit": (Emit(backend="example"),)}
    )
    target = target.model_copy(update={"quantize": target.quantize.model_copy(update=quantize)})
    (folder / "work").mkdir()
    result = call(
        "edgec.backend.compile:compile_artifact",
        {
            "model": str(folder / "model"),
            "target": target.model_dump_json(),
            "emit": 0,
            "calibration": str(spool.folder),
            "work": str(folder / "work"),
            "out": str(folder / "out"),
            "seed": 0,
            "threads": 1,
        },
        log=folder / "log",
        what="example",
    )
    artifact = Artifact.model_validate_json(json.dumps(result.value["artifact"]))
    module = model.module
    assert isinstance(module, nn.Module)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(samples)).numpy()
    return Built(artifact, folder / "out" / artifact.file, samples, wanted)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 90.0), ("int8", 25.0)])
def test_artifact_computes_the_float_model(precision: Precision, least: float, tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", precision)
    assert built.sqnr() > least
    ops = BACKEND.runner(built.artifact, built.file, "numpy", 1).ops()
    assert {item.dtype for item in ops} == {"int8" if precision == "int8" else "float32"}
    assert [item.op for item in ops].count("conv2d") == 3
    with np.load(built.file) as content:
        assert content["0.weight"].dtype == (np.int8 if precision == "int8" else np.float32)
    again = build(tmp_path / "two", "net", precision)
    assert built.file.read_bytes() == again.file.read_bytes()


def test_one_scale_a_channel_is_nearer_than_one_a_tensor(tmp_path: Path) -> None:
    channels = build(tmp_path / "channels", "net", "int8")
    tensor = build(tmp_path / "tensor", "net", "int8", weights="per-tensor")
    assert channels.sqnr() > tensor.sqnr() > 15


@pytest.mark.parametrize(("entry", "word"), [("other", "Hardswish"), ("Residual", "not a layer in a chain")])
def test_what_it_has_no_layer_for_is_named(entry: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=word):
        build(tmp_path / "refused", entry, "fp32")


def test_another_file_is_refused(tmp_path: Path) -> None:
    built = build(tmp_path / "one", "net", "fp32")
    np.savez(tmp_path / "other.npz", layers=np.arange(3))
    with pytest.raises(EdgecError, match="not a model of the example backend"):
        BACKEND.runner(built.artifact, tmp_path / "other.npz", "numpy", 1)
