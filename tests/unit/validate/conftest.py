"""Records of what was found, to be judged and shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edgec.validate.quality import share
from edgec.validate.records import Drift, LayerDrift, RunResult, Validation
from edgec.verify.records import MetricResult, OutputFidelity


def layer(tensor: str, outside: int, *, shift: float = 0.0, certain: float = 0.0) -> LayerDrift:
    return LayerDrift(
        tensor=tensor,
        low=0,
        high=1,
        outside=share(outside, 100),
        evaluation=share(1, 100),
        shift=shift,
        certain=certain,
    )


def drift(outside: int, *layers: LayerDrift) -> Drift:
    return Drift(
        bundle="b", artifact="model.onnx", runtime="onnxruntime", samples=100, outside=share(outside, 100),
        evaluation=share(1, 100), layers=layers,
    )  # fmt: skip


def paired(drop: float) -> MetricResult:
    return MetricResult(
        name="top1", unit="points", float_value=90.0, value=90.0 - drop, drop=drop, drop_low=None, drop_high=None,
        interval="none", samples=100,
    )  # fmt: skip


@pytest.fixture
def make_run() -> Callable[..., RunResult]:
    def make(**changes: Any) -> RunResult:
        values: dict[str, Any] = {
            "bundle": "b", "target": "t", "artifact": "model.onnx", "precision": "int8", "runtime": "onnxruntime",
            "value": 89.0, "bundle_value": 95.0, "paired": paired(1.0), "agreement": share(97, 100),
            "fidelity": (OutputFidelity(output="o", sqnr_db=30.0, max_abs_error=0.1),),
        }  # fmt: skip
        return RunResult(**{**values, **changes})

    return make


@pytest.fixture
def make_validation(make_run: Callable[..., RunResult]) -> Callable[..., Validation]:
    def make(**changes: Any) -> Validation:
        values: dict[str, Any] = {
            "edgec": "1", "data": "prod.npz", "samples": 100, "labelled": True, "content_digest": "0", "metric": "top1",
            "reference": "the float model", "notes": ("a note",), "runs": (make_run(),),
            "drift": (drift(40, layer("conv1", 40), layer("conv2", 1, shift=2.0, certain=1.0)),),
        }  # fmt: skip
        return Validation(**{**values, **changes})

    return make
