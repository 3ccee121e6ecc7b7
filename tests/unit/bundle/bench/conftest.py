"""A small real bundle: an ONNX model, verified in ONNX Runtime, with its harness."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.backends.interface import Artifact, TensorBinding
from edgec.bundle.bench.write import HarnessArtifact, write_harness
from edgec.bundle.manifest import Manifest
from edgec.bundle.write import write_manifest

SAMPLES = np.linspace(-1, 1, 3 * 12, dtype=np.float32).reshape(3, 1, 3, 2, 2)


def write_model(file: Path) -> Artifact:
    """Channels-last ``y = 2 x``, and the index of its largest element."""
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x_nhwc", "two"], ["y_nhwc"]),
            helper.make_node("Flatten", ["y_nhwc"], ["flat"]),
            helper.make_node("ArgMax", ["flat"], ["k"], axis=1, keepdims=0),
        ],
        "twice",
        [helper.make_tensor_value_info("x_nhwc", TensorProto.FLOAT, [1, 2, 2, 3])],
        [
            helper.make_tensor_value_info("y_nhwc", TensorProto.FLOAT, [1, 2, 2, 3]),
            helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    x = TensorBinding(name="x", artifact_name="x_nhwc", shape=(1, 2, 2, 3), dtype="float32", permutation=(0, 2, 3, 1))
    y = TensorBinding(name="y", artifact_name="y_nhwc", shape=(1, 2, 2, 3), dtype="float32", permutation=(0, 3, 1, 2))
    k = TensorBinding(name="k", artifact_name="k", shape=(1,), dtype="int64")
    return Artifact(backend="onnxruntime", format="onnx", file=file.name, precision="fp32", inputs=(x,), outputs=(y, k))


@pytest.fixture(scope="session")
def make_bundle(make_manifest: Callable[..., Manifest]) -> Callable[..., Path]:
    """Write a bundle into a folder; `shift` makes its recorded outputs wrong."""

    def make(folder: Path, shift: float = 0.0, content: bytes | None = None) -> Path:
        folder.mkdir(parents=True)
        artifact = write_model(folder / "model.onnx")
        last = np.ascontiguousarray(SAMPLES.transpose(0, 1, 3, 4, 2)).reshape(3, -1)
        expected = {"y": 2 * SAMPLES + np.float32(shift), "k": last.argmax(1, keepdims=True).astype(np.int64)}
        if content is not None:
            (folder / "model.onnx").write_bytes(content)
        manifest = make_manifest(folder, artifact, target="x86-64-fp32")
        item = HarnessArtifact(artifact, ("onnxruntime",), expected)
        write_harness(folder / "bench", manifest.target, [item], {"x": SAMPLES})
        write_manifest(folder, manifest)
        return folder

    return make


@pytest.fixture(scope="session")
def built(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test may change."""
    return make_bundle(tmp_path_factory.mktemp("dist") / "a board")


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy of it, in a folder whose name has a space."""
    return Path(shutil.copytree(built, tmp_path / "a board"))
