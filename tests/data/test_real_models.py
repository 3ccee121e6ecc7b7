"""Trained models on real data through `edgec.build` with its default options, in every backend.

Run by `make test-data`. The data is in ``$EDGEC_DATA`` and is only read.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from host_target import HOST

import edgec
from edgec.backends.registry import BUILT_IN
from edgec.target.load import load_target

pytestmark = pytest.mark.data

TARGETS = {f"{HOST}-int8": f"{HOST}-fp32", "qnnpack-int8": "qnnpack-fp32"}
"""int8 target -> the same device's float32 target; together they use every backend."""
SIZED = {("small_cnn", "qnnpack-int8"), ("small_cnn_bn", f"{HOST}-int8")}
"""Builds of large models that are held against the float32 ones; together they use every backend too."""
BACKENDS = set(BUILT_IN) - {"example"}
"""All but the template for new ones, which no target of ours uses."""
MAX_RATIO = 0.30
"""int8 artifact to float32 artifact, for models of over `LARGE` parameters."""
LARGE = 200_000


@dataclass(frozen=True)
class Model:
    """A trained model, and what its int8 artifacts must hold."""

    name: str
    folder: str
    path: str
    calibration: str
    evaluation: str
    parameters: int
    samples: int
    float_value: float
    """Published top-1 of the float model in percent."""
    least: float
    """Top-1 that every int8 artifact must reach."""
    settings: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Copied beside the entry: the data folder is not written to, not even by Python's bytecode cache."""


def _fashion(name: str, *, batch_norm: bool, parameters: int, float_value: float) -> Model:
    return Model(
        name=name,
        folder="fashion-mnist",
        path="small_cnn.py:SmallCNN",
        calibration="fashion_mnist_train.npz",
        evaluation="fashion_mnist_test.npz",
        parameters=parameters,
        samples=10_000,
        float_value=float_value,
        least=float_value - 0.10,
        settings={
            "model.arguments": {"batch_norm": batch_norm},
            "model.weights": f"{name}.pt",
            "model.inputs": [{"name": "x", "shape": [1, 1, 28, 28]}],
            "preprocess.divide": 255.0,
        },
        files=("small_cnn.py", f"{name}.pt"),
    )


def _kws(name: str, path: str, *files: str, input_name: str, settings: dict[str, Any]) -> Model:
    arrays = {input_name: "x"}
    return Model(
        name=name,
        folder="mlperf-tiny-kws",
        path=path,
        calibration="kws_calibration_200.npz",
        evaluation="kws_eval_400.npz",
        parameters=23_756,
        samples=400,
        float_value=91.25,
        least=91.0,
        settings={**settings, "calibration.inputs": arrays, "evaluation.inputs": arrays},
        files=files,
    )


MODELS = (
    _fashion("small_cnn", batch_norm=False, parameters=206_922, float_value=92.00),
    _fashion("small_cnn_bn", batch_norm=True, parameters=207_018, float_value=92.55),
    _kws(
        "kws_torch", "ds_cnn.py:DSCNN", "ds_cnn.py", "kws_dscnn.pt", input_name="mfcc",
        settings={"model.weights": "kws_dscnn.pt", "model.inputs": [{"name": "mfcc", "shape": [1, 1, 49, 10]}]},
    ),
    _kws("kws_onnx", "kws_dscnn.onnx", "kws_dscnn.onnx", input_name="input", settings={}),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One model built for one int8 target and, where sizes are compared, for the float32 target of the same device."""

    model: Model
    target: str
    int8: edgec.Bundle
    float32: edgec.Bundle | None

    def ratios(self) -> dict[str, float]:
        """Artifact -> its size over that of the float32 artifact of the same format."""
        if self.float32 is None:
            return {}
        full = {item.artifact.file: item.size for item in self.float32.manifest.artifacts}
        return {item.artifact.file: item.size / full[item.artifact.file] for item in self.int8.manifest.artifacts}


def _build_case(model: Model, target: str, data_folder: Path, project: Path) -> Case:
    for file in model.files:
        shutil.copyfile(data_folder / model.folder / file, project / file)
    settings = {**model.settings, "build.out": str(project / "dist")}
    if "model.weights" in settings:
        settings["model.weights"] = str(project / settings["model.weights"])

    def build(built_for: str, **more: Any) -> edgec.Bundle:
        return edgec.build(
            str(project / model.path),
            target=built_for,
            calibration=str(data_folder / model.folder / model.calibration),
            evaluation=str(data_folder / model.folder / model.evaluation),
            project=project,
            settings={**settings, **more},
        )

    sized = (model.name, target) in SIZED
    float32 = build(TARGETS[target], **{"evaluation.samples": 100}) if sized else None  # only its sizes are needed
    return Case(model, target, build(target), float32)


def test_the_targets_use_every_backend(project: Path) -> None:
    used = chain.from_iterable(load_target(name, project).target.emit for name in TARGETS)
    assert {item.backend for item in used} == BACKENDS


def test_large_models_are_sized_in_every_backend(project: Path) -> None:
    used = chain.from_iterable(load_target(name, project).target.emit for _, name in SIZED)
    assert {item.backend for item in used} == BACKENDS
    assert {name for name, _ in SIZED} == {model.name for model in MODELS if model.parameters > LARGE}


def _misses(case: Case) -> Iterator[str]:
    """Everything that the artifacts of a case do not hold, one line each."""
    if not case.int8.manifest.complete or case.int8.failures:
        yield f"not every artifact was built: {case.int8.failures}"
    if {item.artifact for item in case.int8.measurements} != {
        item.artifact.file for item in case.int8.manifest.artifacts
    }:
        yield "not every artifact was measured"
    for item in case.int8.measurements:
        told = f"{item.artifact} in {item.runtime}"
        if item.failure or item.metric is None:
            yield f"{told}: not measured: {item.failure}"
            continue
        if (item.metric.name, item.samples) != ("top1", case.model.samples):
            yield f"{told}: measured {item.metric.name} on {item.samples} samples"
        if abs(item.metric.float_value - case.model.float_value) > 0.005:
            yield f"{told}: float is {item.metric.float_value:.2f}, not the published {case.model.float_value:.2f}"
        if item.metric.value < case.model.least - 1e-9:
            yield f"{told}: {item.metric.value:.2f}, below {case.model.least:.2f}"
    for file, ratio in case.ratios().items():
        if ratio > MAX_RATIO:
            yield f"{file}: {ratio:.3f} of the float32 artifact, above {MAX_RATIO:.2f}"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_int8_holds_accuracy_and_size(
    model: Model, target: str, data_folder: Path, project: Path, tell: Callable[..., None]
) -> None:
    """One test a build: under xdist, two tests of one build would run, and build, in two processes."""
    case = _build_case(model, target, data_folder, project)
    tell(case.model.name, case.target, case.int8, case.ratios())
    assert list(_misses(case)) == []
    assert bool(case.ratios()) == ((model.name, target) in SIZED)
