"""What follows from target and device, without any toolchain."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact
from edgec.backends.onnxruntime.backend import BACKEND
from edgec.backends.onnxruntime.capability import (
    INTEGER_KERNELS,
    INTEGER_PRODUCTS,
    dynamic_weight_codes,
    static_weight_codes,
)
from edgec.errors import UnsupportedError
from edgec.target.spec import Device, Emit, QuantSpec, Target

FACTS = ("arch", "triple", "cpu", "isa", "cores", "ram_mb")


def device(arch: str, *isa: str) -> Device:
    facts = {"arch": arch, "triple": "t", "cpu": "c", "isa": frozenset(isa), "cores": 1, "ram_mb": 64}
    sources = dict.fromkeys(FACTS, "test")
    return Device.model_validate({"name": "board", "description": "", "sources": sources, **facts})


@pytest.mark.parametrize(
    ("board", "reduced", "static", "dynamic"),
    [
        (device("x86_64", "avx2"), "auto", "u8", "s7"),
        (device("x86_64", "avx2"), "yes", "s7", "s7"),
        (device("x86_64", "avx2"), "no", "s8", "s8"),
        (device("x86_64", "avx512-vnni"), "auto", "s8", "s8"),
        (device("aarch64", "neon"), "auto", "s8", "s8"),
        (device("aarch64", "neon", "dotprod"), "yes", "s7", "s7"),
    ],
)
def test_weight_codes_follow_from_the_isa(board: Device, reduced: str, static: str, dynamic: str) -> None:
    quantize = QuantSpec.model_validate({"reduced_range": reduced})
    assert static_weight_codes(board, quantize) == static
    assert dynamic_weight_codes(board, quantize) == dynamic


def test_impossible_targets_are_told_why() -> None:
    emit = Emit(backend="onnxruntime", engine="x86", runtimes=("torch",))
    old = Target(name="t", device=device("armv7", "neon"), precision="int8", emit=(emit,))
    reasons = BACKEND.reasons_against(old, emit)
    assert len(reasons) == 3
    for word, reason in zip(("32-bit", "engine", "torch"), reasons, strict=True):
        assert word in reason
    new = Target(name="t", device=device("aarch64", "neon"), precision="int8", emit=(Emit(backend="onnxruntime"),))
    assert list(BACKEND.reasons_against(new, new.emit[0])) == []


def test_products_are_integer_kernels() -> None:
    assert INTEGER_PRODUCTS <= INTEGER_KERNELS


def test_listing_passes_imports_no_toolchain() -> None:
    code = (
        "import sys; from edgec.backends.registry import get_backend; b = get_backend('onnxruntime');"
        "assert not {'onnx', 'onnxruntime', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_runtime_is_refused(tmp_path: Path) -> None:
    artifact = Artifact(
        backend="onnxruntime", format="onnx", file="model.onnx", precision="fp32", inputs=(), outputs=()
    )
    with pytest.raises(UnsupportedError, match="does not run ONNX"):
        BACKEND.runner(artifact, tmp_path, "torch", 1)
