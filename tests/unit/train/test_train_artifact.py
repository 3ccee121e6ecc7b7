"""What was trained is what backends make of it: no further loss on the way to the artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from host_target import HOST
from onnx import numpy_helper
from torch import nn

from edgec.backends.registry import get_backend
from edgec.passes.contract import PassContext
from edgec.passes.runner import run_passes
from edgec.passes.weight_layers import weight_layers
from edgec.quant.fidelity import SqnrMeter
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.load import load_target
from edgec.train.prepare import TrainableModel


def simulate(job: Any, graph: Any, grid: WeightGrid) -> TrainableModel:
    """The fake-quantized module of a trained graph, with the ranges that backends calibrate."""
    samples = [(torch.from_numpy(sample["x"]),) for sample in job.calibration]
    simulated = TrainableModel(graph, grid, samples[0], activations=True)
    simulated.observe(samples)
    return simulated


def artifact_of(job: Any, model: Any, tmp_path: Path, name: str, target_name: str) -> tuple[Any, Path]:
    """The int8 artifact of a float model in a backend's first runtime, and its file."""
    target = load_target(target_name, tmp_path).target
    (emit,) = [item for item in target.emit if item.backend == name]
    backend = get_backend(name)
    folder = tmp_path / f"artifact-{name}"
    folder.mkdir()
    context = PassContext(target, folder, calibration=job.calibration, emit=emit)
    lowered = backend.lower(model, context)
    made, _ = run_passes(backend.passes(target, emit, Recipe()), lowered, context, backend.fingerprint)
    artifact = backend.emit(made, context, folder)
    file = folder / artifact.file
    runtime = backend.runtimes(target, emit)[0].name
    return backend.runner(artifact, file, runtime, 1), file


@pytest.mark.parametrize("name", ["onnxruntime", pytest.param("fbgemm", marks=pytest.mark.slow)])
def test_the_artifact_computes_what_was_trained(
    make_job: Callable[..., Any], digits_net: nn.Module, tmp_path: Path, name: str
) -> None:
    job = make_job(digits_net)
    backend, target = get_backend(name), load_target(f"{HOST}-int8", tmp_path).target
    grid = backend.weight_grid(target, next(item for item in target.emit if item.backend == name))
    trained, _ = job.train(grid=grid, epochs=2)
    simulated = simulate(job, trained.graph, grid)
    run, _ = artifact_of(job, trained, tmp_path, name, f"{HOST}-int8")
    meter, same = SqnrMeter(), 0
    with torch.no_grad():
        for sample in job.evaluation:
            wanted = simulated(torch.from_numpy(sample["x"])).numpy()
            (found,) = run(sample).values()
            meter.add(wanted, found)
            same += int(found.argmax() == wanted.argmax())
    assert same / len(job.evaluation) >= 0.99
    assert meter.sqnr_db > 30


def test_the_artifact_holds_the_very_codes(make_job: Callable[..., Any], digits_net: nn.Module, tmp_path: Path) -> None:
    job = make_job(digits_net, samples=64)
    trained, _ = job.train(grid=WeightGrid(), epochs=1)
    _, file = artifact_of(job, trained, tmp_path, "onnxruntime", "x86-64-vnni-int8")
    stored = [numpy_helper.to_array(item) for item in onnx.load(file).graph.initializer]
    held = {tuple(np.sort(np.abs(item.astype(np.int32)).ravel())) for item in stored if item.dtype == np.int8}
    for layer in weight_layers(trained.graph)[0]:
        rows = layer.module.weight.detach().flatten(1)
        codes = (rows / rows.abs().amax(dim=1, keepdim=True) * 127).round().int()
        assert tuple(np.sort(codes.abs().numpy().ravel())) in held
