"""What a harness is fed: tolerances, recorded arrays, requirements; the same bytes each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.backends.interface import Artifact, TensorBinding
from edgec.backends.registry import get_backend, package_version
from edgec.bundle.bench.write import HarnessArtifact, tolerance, write_harness, write_programs
from edgec.errors import BackendUnavailableError, InternalError, StorageError
from edgec.target.load import load_target
from edgec.target.spec import Precision

TARGET = load_target("rpi4-int8", Path("nowhere")).target
VALUES = np.array([[-1.0, 3.0]], dtype=np.float32)


def binding(step: float | None = None) -> TensorBinding:
    return TensorBinding(name="y", artifact_name="y", shape=(1, 2), dtype="float32", step=step)


@pytest.mark.parametrize(
    ("precision", "step", "expected", "atol"),
    [
        ("fp32", None, VALUES, 4e-3),
        ("fp16", None, VALUES, 4e-2),
        ("int8", None, VALUES, 0.2),
        ("int8-dynamic", None, VALUES, 0.2),
        ("int8", 0.5, VALUES, 1.5),
        ("int8-dynamic", 0.5, VALUES, 0.2),
        ("fp32", 0.5, VALUES, 4e-3),
        ("fp32", None, np.zeros((1, 2), np.float32), 1e-6),
        ("fp32", None, np.full((1, 2), 10, np.float32), 1e-2),
        ("fp32", None, np.array([[-10, -9]], np.float32), 1e-2),
        ("fp32", None, np.array([[np.nan, np.inf, 1, 3]], np.float32), 3e-3),
        ("fp32", None, np.array([[np.nan]], np.float32), 1e-6),
        ("fp32", None, np.zeros((1, 0), np.float32), 1e-6),
        ("fp16", None, np.array([[-6e4, 6e4]], np.float16), 1200.0),
    ],
)
def test_tolerance_of_floats(precision: Precision, step: float | None, expected: Any, atol: float) -> None:
    found = tolerance(precision, binding(step), expected)
    assert found["max_unequal"] is None
    assert found["atol"] == pytest.approx(atol, rel=1e-2)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_])
def test_tolerance_of_indices_is_a_share(dtype: type[Any]) -> None:
    expected = np.array([[1, 0]], dtype)
    shares = [tolerance(p, binding(0.5), expected) for p in ("fp32", "fp16", "int8", "int8-dynamic")]  # type: ignore[arg-type]
    assert shares == [{"atol": None, "max_unequal": share} for share in (0.0, 0.1, 0.25, 0.25)]


def item(
    artifact: Artifact, *runtimes: str, file: str = "model.onnx", samples: int = 2, backend: str = "onnxruntime"
) -> HarnessArtifact:
    outputs = {"y": np.arange(samples * 2, dtype=np.float32).reshape(samples, 1, 2)}
    return HarnessArtifact(artifact.model_copy(update={"file": file, "backend": backend}), runtimes, outputs)


def inputs(samples: int = 2) -> dict[str, Any]:
    return {"x": np.ones((samples, 1, 4), np.float32)}


def test_the_same_arguments_give_the_same_bytes(plain_artifact: Artifact, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        write_harness(tmp_path / name, TARGET, [item(plain_artifact, "onnxruntime")], inputs())
        found.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    assert sorted(found[0]) == [
        "bench.json",
        "bench.py",
        "expected-model.onnx.npz",
        "inputs.npz",
        "requirements.txt",
        "run.sh",
        "run_onnx.py",
    ]
    for name in ("bench.py", "run.sh"):
        assert (tmp_path / "one" / name).stat().st_mode & 0o777 == 0o755
    with np.load(tmp_path / "one" / "inputs.npz", allow_pickle=False) as file:
        assert np.array_equal(file["x"], inputs()["x"])


def test_the_configuration(plain_artifact: Artifact, tmp_path: Path) -> None:
    write_harness(tmp_path, TARGET, [item(plain_artifact, "onnxruntime")], inputs())
    config = json.loads((tmp_path / "bench.json").read_text())
    assert (config["target"], config["threads"], config["runs"]) == ("rpi4-int8", 1, 100)
    (entry,) = config["artifacts"]
    assert (entry["file"], entry["runtimes"]) == ("model.onnx", ["onnxruntime"])
    assert entry["widens"] is False
    assert entry["outputs"][0]["artifact_name"] == "y_q"
    assert entry["outputs"][0]["atol"] == pytest.approx(3 * 0.125)


def requirements(folder: Path, *items: HarnessArtifact) -> list[str]:
    write_harness(folder, TARGET, items, inputs())
    return (folder / "requirements.txt").read_text().splitlines()


def test_requirements_name_the_first_runtime_and_leave_numpy_to_the_board(
    plain_artifact: Artifact, tmp_path: Path
) -> None:
    first = item(plain_artifact, "ai-edge-litert", "tflite-runtime", file="model.tflite", backend="tflite")
    second = item(plain_artifact, "onnxruntime")
    pins = {name: f"{name}=={package_version(name)}" for name in ("ai-edge-litert", "tflite-runtime", "onnxruntime")}
    comment = "# for the other artifacts and runtimes of this bundle:"
    assert requirements(tmp_path / "a", first, second) == [
        "numpy",
        pins["ai-edge-litert"],
        comment,
        "# " + pins["tflite-runtime"],
        "# " + pins["onnxruntime"],
    ]
    old = item(plain_artifact, "tflite-runtime", file="model.tflite", backend="tflite")
    assert requirements(tmp_path / "b", old) == ["numpy<2", pins["tflite-runtime"]]
    unknown = item(plain_artifact, "edgec-no-such-runtime")
    assert requirements(tmp_path / "c", unknown) == ["numpy", "edgec-no-such-runtime"]
    itself = item(plain_artifact, "numpy", file="model.npz", backend="example")
    assert requirements(tmp_path / "d", itself) == ["numpy"]


def test_two_runners_of_one_format_are_refused(
    plain_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = plain_artifact.model_copy(update={"file": "model.npz", "backend": "example"})
    example = get_backend("example")
    same_name = example.format.model_copy(update={"name": "onnx"})
    backends = {"example": replace(example, format=same_name), "onnxruntime": get_backend("onnxruntime")}  # type: ignore[type-var]
    monkeypatch.setattr("edgec.bundle.bench.write.get_backend", backends.__getitem__)
    with pytest.raises(BackendUnavailableError, match='another backend of this target runs the format "onnx"'):
        write_programs(tmp_path, [plain_artifact, other])


def test_samples_must_agree(plain_artifact: Artifact, tmp_path: Path) -> None:
    for given, recorded in ((2, 3), (0, 0)):
        with pytest.raises(InternalError, match="different numbers of samples"):
            write_harness(tmp_path, TARGET, [item(plain_artifact, "onnxruntime", samples=recorded)], inputs(given))


def test_a_folder_that_cannot_be_made_is_told(plain_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("a file")
    with pytest.raises(StorageError):
        write_harness(tmp_path / "bench", TARGET, [item(plain_artifact, "onnxruntime")], inputs())


def test_a_bundle_with_several_artifacts_runs_the_one_named(make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    config = json.loads((bundle / "bench" / "bench.json").read_text())
    assert [entry["file"] for entry in config["artifacts"]] == ["model.onnx"]
    assert (bundle / "bench" / config["artifacts"][0]["expected"]).is_file()
