"""The harness runs every format: TensorFlow Lite in both of its runtimes, and TorchScript with its kernel library."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.backends.interface import Artifact, TensorBinding
from edgec.bundle.bench.write import HarnessArtifact, write_harness
from edgec.bundle.manifest import Manifest
from edgec.bundle.write import write_manifest

SAMPLES = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 1, 4)


def tensor(name: str) -> TensorBinding:
    return TensorBinding(name=name, artifact_name=name, shape=(1, 4), dtype="float32")


def artifact(**fields: Any) -> Artifact:
    return Artifact(precision="fp32", inputs=(tensor("x"),), outputs=(tensor("y"),), **fields)


def write_lite(file: Path) -> Artifact:
    """``y = x + x``."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tensors = []
    for name in (b"x", b"y"):
        item = schema.TensorT()
        item.name, item.shape, item.type = name, [1, 4], schema.TensorType.FLOAT32
        tensors.append(item)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    add = schema.OperatorT()
    add.inputs, add.outputs = [0, 0], [1]
    add.builtinOptionsType, add.builtinOptions = schema.BuiltinOptions.AddOptions, schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [add]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    file.write_bytes(bytes(builder.Output()))
    return artifact(backend="tflite", format="tflite", file=file.name)


def write_torchscript(file: Path, engine: str) -> Artifact:
    """The same in TorchScript."""
    import torch

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is what the devices run
        torch.jit.trace(Twice(), torch.from_numpy(SAMPLES[0])).save(str(file))
    return artifact(backend="fbgemm", format="torchscript", file=file.name, engine=engine)


@pytest.fixture(scope="module")
def mixed(make_manifest: Callable[..., Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    expected = {"y": 2 * SAMPLES}
    items = [
        HarnessArtifact(write_lite(folder / "model.tflite"), ("ai-edge-litert", "tflite-runtime"), expected),
        HarnessArtifact(write_torchscript(folder / "model.fbgemm.pt", "fbgemm"), ("torch",), expected),
        HarnessArtifact(write_torchscript(folder / "model.other.pt", "no-such-engine"), ("torch",), expected),
    ]
    manifest = make_manifest(folder, *(item.artifact for item in items), target="x86-64-int8")
    write_harness(folder / "bench", manifest.target, items, {"x": SAMPLES})
    write_manifest(folder, manifest)
    return folder


@pytest.mark.parametrize(
    ("file", "runtime"),
    [
        (None, "ai-edge-litert"),
        (None, "tflite-runtime"),
        ("model.fbgemm.pt", "torch"),
    ],
)
def test_it_runs(mixed: Path, tmp_path: Path, file: str | None, runtime: str) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, str(mixed / "bench" / "bench.py"), "--runtime", runtime, "--runs", "2"]
    command += ["--out", str(out), *(("--artifact", file) if file else ())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert (result["artifact"], result["runtime"]) == (file or "model.tflite", runtime)
    assert result["runtime_version"] != "unknown"
    assert result["parity"]["outputs"][0]["max_abs_error"] == 0


def test_a_missing_kernel_library_is_4(mixed: Path) -> None:
    command = [sys.executable, str(mixed / "bench" / "bench.py"), "--artifact", "model.other.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 4
    assert last == "bench.py: torch refuses model.other.pt: this PyTorch has no quantized engine no-such-engine"
