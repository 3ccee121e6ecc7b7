"""Every family of models through `edgec.build` and all backends: near to float in every runtime, or refused by name."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from host_target import HOST

import edgec

MODELS = Path(__file__).with_name("models.py")

pytestmark = pytest.mark.families

SPEC = importlib.util.spec_from_file_location("family_models", MODELS)
assert SPEC is not None
assert SPEC.loader is not None
FAMILIES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(FAMILIES)
LEAST = {"fp16": 50.0, "int8": 20.0, "int8-dynamic": 25.0}
"""SQNR in dB that the worst output must have."""
CASES = [(name, "rpi4-int8") for name in FAMILIES.INPUTS]
CASES += [("Transformer", f"{HOST}-int8"), ("Segmenter", "x86-64-int8"), ("Mobile", "x86-64-int8")]
CASES += [("Transformer", "rpi4-fp16"), ("Recurrent", "rpi4-int8-dynamic"), ("Text", "x86-64-int8-dynamic")]


def samples(name: str, count: int, seed: int) -> dict[str, Any]:
    """Random inputs; those called ids are token ids."""
    random = np.random.default_rng(seed)
    return {
        key: random.integers(0, 100, (count, *shape[1:]))
        if key == "ids"
        else random.standard_normal((count, *shape[1:])).astype(np.float32)
        for key, shape in FAMILIES.INPUTS[name].items()
    }


@pytest.mark.parametrize(("name", "target"), CASES, ids=[" for ".join(case) for case in CASES])
def test_family(name: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(MODELS, tmp_path)
    torch.manual_seed(0)
    model = getattr(FAMILIES, name)()
    torch.save(model.state_dict(), "model.pt")
    np.savez("calibration.npz", **samples(name, 64, seed=1))
    np.savez("evaluation.npz", **samples(name, 50, seed=2))
    bundle = edgec.build(
        f"models.py:{name}",
        target=target,
        calibration="calibration.npz",
        evaluation="evaluation.npz",
        settings={
            "model.weights": "model.pt",
            "model.inputs": [
                {"name": key, "shape": list(shape), "dtype": "int64" if key == "ids" else "float32"}
                for key, shape in FAMILIES.INPUTS[name].items()
            ],
            "evaluation.metric": "sqnr",
            "gates.min_sqnr_db": LEAST[bundle_precision(target)],
        },
    )
    manifest = bundle.manifest
    assert len(manifest.artifacts) == len(manifest.target.emit)
    assert not [item for item in manifest.accuracy if item.failure]
    for item in manifest.accuracy:
        in_float = [
            op for op in item.ops if op.dtype == "float32" and any(word in op.op.lower() for word in FAMILIES.PRODUCTS)
        ]
        assert all(op.reason for op in in_float), f"{item.artifact}: a product in float without a reason"


def bundle_precision(target: str) -> str:
    """The precision in a target's name."""
    return next(name for name in ("int8-dynamic", "fp16", "int8") if target.endswith(name))
