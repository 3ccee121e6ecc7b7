"""A manifest as a build makes it, and jobs on handwritten digits for the tests of pruning and training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact, OpRecord, TensorBinding
from edgec.bundle.manifest import Manifest, ProjectRecord, accuracy_of
from edgec.bundle.write import digest_file
from edgec.dataset.spool import Spool, SpoolInfo
from edgec.dataset.write import write_spool
from edgec.machine import Isa, Machine
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.passes.contract import Pass, PassContext
from edgec.passes.coverage import Coverage
from edgec.passes.runner import run_passes
from edgec.plan.plan import make_plan, record
from edgec.project.spec import CalibrationSpec, DataSpec, EvaluationSpec, ModelSpec, Preprocess, Project
from edgec.target.load import load_target
from edgec.verify.records import GateResult, Latency, Measurement, MetricResult, OutputFidelity

PROJECT = Project(
    model=ModelSpec(path="model.py:Net"),
    calibration=CalibrationSpec(data="c.npz"),
    evaluation=EvaluationSpec(data="e.npz"),
)


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., Measurement]:
    """A measurement of ``model.onnx``; keywords replace fields."""

    def make(**fields: Any) -> Measurement:
        metric = MetricResult(
            name="top1", unit="points", float_value=97.25, value=96.5, drop=0.75, drop_low=-0.25, drop_high=1.75,
            interval="paired bootstrap", samples=400,
        )  # fmt: skip
        plain: dict[str, Any] = {
            "artifact": "model.onnx",
            "backend": "onnxruntime",
            "runtime": "onnxruntime",
            "runtime_version": "1.2.3",
            "judged": True,
            "machine": Machine(arch="x86_64", cpu="test cpu", features=("avx2",), cores=2),
            "size_bytes": 2048,
            "samples": 400,
            "metric": metric,
            "agreement": 0.985,
            "agreement_low": 0.97,
            "fidelity": (OutputFidelity(output="y", sqnr_db=33.25, max_abs_error=0.5),),
            "ops": tuple(OpRecord(name=f"n{index}", op="Conv", dtype="int8") for index in range(3)),
            "latency": Latency(p50_ms=1.125, p90_ms=1.5, runs=50, threads=1),
            "peak_rss_mb": 81.0,
        }
        return Measurement(**{**plain, **fields})

    return make


@pytest.fixture(scope="session")
def make_manifest(make_measurement: Callable[..., Measurement]) -> Callable[..., Manifest]:
    """The manifest of a bundle in folder `folder`, whose artifacts lie there already; keywords replace fields."""

    def make(folder: Path, *artifacts: Artifact, target: str = "x86-64-int8", **fields: Any) -> Manifest:
        resolved = load_target(target, folder)
        info = SpoolInfo(
            inputs=(TensorSpec(name="x", shape=(1, 4), dtype="float32"),),
            samples=400,
            has_labels=True,
            content_digest="1" * 64,
            origin="e.npz",
            notes=("labels: y",),
        )
        records = []
        for artifact in artifacts:
            file = digest_file(folder / artifact.file)
            records.append({"artifact": artifact, "sha256": file.sha256, "size": file.size, "passes": ()})
        plain: dict[str, Any] = {
            "edgec": "0.1.0",
            "target": resolved.target,
            "target_digest": resolved.target.digest(),
            "source": ModelSource(format="python", path="model.py", sha256="0" * 64, entry="Net"),
            "calibration": info,
            "evaluation": info,
            "project": ProjectRecord(sha256="2" * 64, settings=PROJECT.plain(), code={}, threads=1),
            "isa": Isa(arch="x86_64", features=("avx2",), torch="AVX2"),
            "plan": record(make_plan(resolved, PROJECT)).model_dump(mode="json"),
            "artifacts": tuple(records),
            "coverage": (Coverage(subject="conv1", state="float32", reason="its weights are shared"),),
            "gates": (
                GateResult(
                    gate="max_drop", artifact="model.onnx", runtime="onnxruntime", limit=1.0, value=0.75, state="met",
                    margin=0.25, reason="as measured", default=True,
                ),
            ),
            "accuracy": (accuracy_of(make_measurement()),),
            "toolchain": {"python": "3.11.7", "onnx": "1.2.3"},
        }  # fmt: skip
        return Manifest.model_validate({**plain, **fields})

    return make


@pytest.fixture(scope="session")
def plain_artifact() -> Artifact:
    """``model.onnx``: one input, one output."""
    return Artifact(
        backend="onnxruntime",
        format="onnx",
        file="model.onnx",
        precision="int8",
        inputs=(TensorBinding(name="x", artifact_name="x", shape=(1, 4), dtype="float32"),),
        outputs=(TensorBinding(name="y", artifact_name="y_q", shape=(1, 2), dtype="float32", step=0.125),),
    )


@pytest.fixture(scope="session")
def digits() -> tuple[Any, Any]:
    """All images of handwritten digits in 0 to 1, [N, 1, 8, 8], and their labels, as tensors."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    data = load_digits()
    return torch.from_numpy((data.images / 16).astype(np.float32)[:, None]), torch.from_numpy(data.target)


@pytest.fixture
def digits_model(tmp_path: Path) -> Callable[..., FloatModel]:
    """A module of digits as a float model after some passes, which is also saved in ``model``."""
    import torch

    from edgec.model import store
    from edgec.model.outputs import flatten_outputs
    from edgec.model.samples import sample_tensors
    from edgec.model.trace import trace

    def make(module: Any, passes: Sequence[Pass[FloatModel]]) -> FloatModel:
        inputs = (TensorSpec(name="x", shape=(1, 1, 8, 8)),)
        sample = sample_tensors(inputs, seed=0)
        with torch.no_grad():
            outputs = flatten_outputs(module.eval()(*sample))
        traced = trace(module, sample, sample_tensors(inputs, seed=1))
        model = FloatModel(
            name="net",
            source=ModelSource(format="python", path="net.py", sha256="0" * 64, entry="make"),
            inputs=inputs,
            outputs=tuple(TensorSpec(name=name, shape=tuple(item.shape)) for name, item in outputs),
            graph=traced.graph,
            untraceable=traced.untraceable,
            module=traced.graph or module,
        )
        context = PassContext(load_target("x86-64-vnni-int8", tmp_path).target, tmp_path)
        model, _ = run_passes(passes, model, context, store.fingerprint)
        store.save(model, tmp_path / "model")
        return model

    return make


@pytest.fixture
def digits_spool(tmp_path: Path, digits: tuple[Any, Any]) -> Callable[..., Spool]:
    """Digits `begin` to `end` as samples; `labels`: "y", None, or a function of the images."""
    import numpy as np

    def make(name: str, begin: int, end: int, what: Any, labels: Any) -> Spool:
        arrays = {"x": digits[0][begin:end, None].numpy()}
        if labels == "y":
            arrays["y"] = digits[1][begin:end].numpy()
        elif labels is not None:
            arrays["y"] = labels(digits[0][begin:end]).numpy()
        np.savez(tmp_path / f"{name}.npz", **arrays)
        spec, inputs = DataSpec(data=f"{name}.npz"), (TensorSpec(name="x", shape=(1, 1, 8, 8)),)
        return write_spool(spec, Preprocess(), inputs, tmp_path / name, tmp_path, samples=None, seed=0, what=what)

    return make


@pytest.fixture
def branching_net() -> Any:
    """A net whose forward() branches on its input, so that it has no graph."""
    import torch
    from torch import nn

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.sum() > 0:
                return self.layer(x)
            return -self.layer(x)

    return Branching()
