"""What differs between two bundles has a name: the file, and within it the tensor, array or key."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.interface import Artifact
from edgec.bundle.differences import compare_bundles
from edgec.bundle.manifest import MANIFEST, Manifest
from edgec.bundle.write import write_manifest


def net(file: Path, weight: float = 1, name: str = "product") -> None:
    value = [helper.make_tensor_value_info(title, TensorProto.FLOAT, [1, 4]) for title in "xy"]
    constants = [
        numpy_helper.from_array(np.full(4, item, np.float32), title) for title, item in (("w", weight), ("b", 2))
    ]
    nodes = [helper.make_node("Mul", ["x", "w"], ["m"], name), helper.make_node("Add", ["m", "b"], ["y"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", value[:1], value[1:], constants)), file)


@pytest.fixture
def pair(tmp_path: Path, make_manifest: Callable[..., Manifest], plain_artifact: Artifact) -> Callable[..., Any]:
    """Compare a bundle with a copy of it that `change` was applied to; other fields go into the copy's manifest."""

    def compare(change: Callable[[Path], object], **fields: Any) -> tuple[int, dict[str, str]]:
        first, second = tmp_path / "first", tmp_path / "second"
        (first / "bench").mkdir(parents=True)
        net(first / "model.onnx")
        np.savez(first / "bench" / "inputs.npz", x=np.zeros(3), z=np.ones(2))
        (first / "bench" / "bench.json").write_text(json.dumps({"runs": 5, "artifacts": [{"file": "a"}, {}]}))
        (first / "bench" / "run.sh").write_text("true")
        shutil.copytree(first, second)
        change(second)
        manifest = write_manifest(first, make_manifest(first, plain_artifact))
        write_manifest(second, make_manifest(second, plain_artifact, **fields))
        for number, folder in enumerate((first, second)):
            (folder / "measurements.json").write_text(f"{number}")
            (folder / "report.html").write_text(f"{number}")
        count, found = compare_bundles(first, second, manifest)
        return count, {item.file: item.what for item in found}

    return compare


def test_equal_bundles(pair: Callable[..., Any]) -> None:
    assert pair(lambda folder: None) == (6, {})


def test_tensors_of_models_come_first_and_digests_are_no_differences_of_their_own(pair: Callable[..., Any]) -> None:
    count, found = pair(lambda folder: net(folder / "model.onnx", 3))
    assert count == 6
    assert list(found) == ["model.onnx", "SHA256SUMS", MANIFEST]
    assert found["model.onnx"] == "1 of 2 tensors: w"
    assert found[MANIFEST] == "only digests of the files above"


def test_a_model_with_equal_tensors(pair: Callable[..., Any]) -> None:
    _, found = pair(lambda folder: net(folder / "model.onnx", name="other"))
    assert found["model.onnx"] == "no tensor: the graph, or names in it"


def test_arrays_and_keys(pair: Callable[..., Any]) -> None:
    def change(folder: Path) -> None:
        np.savez(folder / "bench" / "inputs.npz", x=np.zeros(3), z=np.zeros(2))
        (folder / "bench" / "bench.json").write_text(json.dumps({"runs": 6, "artifacts": [{"file": "b"}, []]}))

    _, found = pair(change, complete=False, toolchain={"python": "3.11.8", "onnx": "1.2.3"})
    assert found["bench/inputs.npz"] == "1 of 2 arrays: z"
    assert found["bench/bench.json"] == "3 of 3 keys: runs, artifacts.0.file, artifacts.1"
    assert found[MANIFEST].endswith("keys: complete, toolchain.python")


def test_files_that_one_has_and_modes(pair: Callable[..., Any]) -> None:
    def change(folder: Path) -> None:
        (folder / "bench" / "run.sh").chmod(0o700)
        (folder / "bench" / "bench.json").unlink()
        (folder / "more.bin").write_text("x")

    _, found = pair(change)
    assert found["bench/run.sh"] == "mode 644, and 700 in the second build"
    assert found["bench/bench.json"] == "only the first build has it"
    assert found["more.bin"] == "only the second build has it"


def test_many_differences_are_counted(pair: Callable[..., Any]) -> None:
    _, found = pair(lambda folder: None, toolchain={f"p{number:02}": "1" for number in range(30)})
    told = ", ".join(f"toolchain.{name}" for name in ("onnx", "python", "p00", "p01", "p02", "p03", "p04", "p05"))
    assert found[MANIFEST].endswith(f"keys: {told} and 24 more")
