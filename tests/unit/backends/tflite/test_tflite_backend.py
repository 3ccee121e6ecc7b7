"""What the backend says before anything is built, without its toolchain."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgec.backend.protocol import Backend
from edgec.backends.tflite.backend import BACKEND
from edgec.backends.tflite.passes import QuantizeDynamic, QuantizeStatic, StoreFloat16
from edgec.passes.contract import Pass
from edgec.quant.recipe import Recipe
from edgec.target.spec import Arch, Precision, QuantSpec

from .conftest import make_target


def test_importing_it_imports_no_framework() -> None:
    code = (
        "import sys, edgec.backends.tflite.backend, edgec.backends.tflite.runner;"
        "print([m for m in ('tensorflow', 'torch', 'onnx', 'onnx2tf', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("fp32", ()),
        ("fp16", (StoreFloat16(),)),
        ("int8", (QuantizeStatic(per_channel=True),)),
        ("int8-dynamic", (QuantizeDynamic(per_channel=True, per_channel_dense=False),)),
    ],
)
def test_passes_of_each_precision(precision: Precision, expected: tuple[Pass[object], ...]) -> None:
    target = make_target(precision)
    assert BACKEND.passes(target, target.emit[0], Recipe()) == expected


def test_dense_weights_are_per_channel_where_tflite_runtime_need_not_run_them() -> None:
    target = make_target("int8-dynamic", runtimes=("ai-edge-litert",))
    assert BACKEND.passes(target, target.emit[0], Recipe()) == (
        QuantizeDynamic(per_channel=True, per_channel_dense=True),
    )


def test_per_tensor_weights_on_request() -> None:
    target = make_target("int8", quantize=QuantSpec(weights="per-tensor"))
    assert BACKEND.passes(target, target.emit[0], Recipe()) == (QuantizeStatic(per_channel=False),)


@pytest.mark.parametrize(
    ("arch", "runtimes", "judged"),
    [
        ("x86_64", None, (True, True)),
        ("aarch64", ("ai-edge-litert",), (True, False)),
        ("armv7", None, (False, True)),
    ],
)
def test_judged_runtimes(arch: Arch, runtimes: tuple[str, ...] | None, judged: tuple[bool, bool]) -> None:
    target = make_target("int8", arch=arch, runtimes=runtimes)
    specs = BACKEND.runtimes(target, target.emit[0])
    assert tuple(item.name for item in specs) == ("ai-edge-litert", "tflite-runtime")
    assert tuple(item.judged for item in specs) == judged


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (make_target(engine="x86"), "engine"),
        (make_target(runtimes=("litert",)), "litert"),
        (make_target(runtimes=()), "empty"),
        (make_target(arch="armv7", runtimes=("ai-edge-litert",)), "armv7"),
        (make_target(quantize=QuantSpec(reduced_range="yes")), "7-bit"),
    ],
)
def test_impossible_targets_are_refused_with_the_reason(target: object, told: str) -> None:
    (reason,) = BACKEND.reasons_against(target, target.emit[0])  # type: ignore[attr-defined, arg-type]
    assert told in reason


def test_possible_target_is_not_refused() -> None:
    target = make_target("int8")
    assert list(BACKEND.reasons_against(target, target.emit[0])) == []


def test_it_is_a_backend() -> None:
    backend: Backend[object] = BACKEND  # type: ignore[assignment]
    assert (backend.name, backend.format, backend.extra) == ("tflite", "tflite", "tflite")
