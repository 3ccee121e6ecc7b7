"""Points and a small project for the tests of sweeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.project.spec import CalibrationSpec, EvaluationSpec, InputSpec, ModelSpec, Project
from edgec.quant.recipe import Recipe
from edgec.sweep.records import Pace, Point
from edgec.verify.records import MetricResult


def _pace(ms: float, ratio: float) -> Pace:
    return Pace(
        latency_ms=ms, ratio=ratio, ratio_low=0.9 * ratio, ratio_high=1.1 * ratio, float_ms=ms / ratio, steady_ms=ms
    )


@pytest.fixture(scope="session")
def make_point() -> Callable[..., Point]:
    """A point by accuracy in percent, ms and KiB; keywords replace fields."""

    def make(accuracy: float | None = 90.0, ms: float | None = 1.0, kib: float = 10.0, **fields: Any) -> Point:
        metric = None
        if accuracy is not None:
            metric = MetricResult(
                name="top1", unit="points", float_value=95.0, value=accuracy, drop=95.0 - accuracy, drop_low=None,
                drop_high=None, interval="", samples=10,
            )  # fmt: skip
        plain: dict[str, Any] = {
            "target": "x86-64-int8",
            "device": "x86-64",
            "prune": 0.0,
            "precision": "int8",
            "method": "minmax",
            "artifact": "model.onnx",
            "backend": "onnxruntime",
            "runtime": "onnxruntime",
            "sha256": "0" * 64,
            "size_bytes": round(1024 * kib),
            "recipe": Recipe(),
            "metric": metric,
            "agreement": 0.99,
            "sqnr_db": 30.0,
            "pace": None if ms is None else _pace(ms, 0.5),
            "memory_mb": 70.0,
        }
        return Point(**{**plain, **fields})

    return make


@pytest.fixture
def small_project(tmp_path: Path) -> tuple[Project, Path]:
    """A project whose files are there, and its folder; nothing of it can be run."""
    root = tmp_path / "project"
    root.mkdir()
    for name in ("calibration.npz", "evaluation.npz", "model.pt"):
        (root / name).write_bytes(name.encode())
    (root / "model.py").write_text("raise AssertionError('a key runs no code')\n")
    (root / "blocks.py").write_text("")
    project = Project(
        model=ModelSpec(path="model.py:Net", weights="model.pt", inputs=(InputSpec(name="x", shape=(1, 4)),)),
        calibration=CalibrationSpec(data="calibration.npz"),
        evaluation=EvaluationSpec(data="evaluation.npz"),
    )
    return project, root
