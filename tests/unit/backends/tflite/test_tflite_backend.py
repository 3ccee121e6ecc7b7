"""What the backend says before anything is built, without its toolchain."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgec.backends.interface import Backend
from edgec.backends.tflite.backend import BACKEND
from edgec.backends.tflite.passes import QuantizeDynamic, QuantizeWeights, StoreFloat16
from edgec.backends.tflite.quantize_static import CollectRanges, QuantizeInt16, QuantizeStatic
from edgec.backends.tflite.runtimes import judged_runtimes, tried_runtimes
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
        ("int8", (CollectRanges(histogram=False), QuantizeStatic("minmax", (), per_channel=True))),
        ("int8-dynamic", (QuantizeDynamic(per_channel=True, per_channel_dense=False),)),
        ("int8-weight-only", (QuantizeWeights(8, True, None, ()),)),
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
    assert BACKEND.passes(target, target.emit[0], Recipe())[-1] == QuantizeStatic(per_channel=False)
    assert not BACKEND.weight_grid(target, target.emit[0]).per_channel


def test_recipes_that_share_statistics_begin_alike() -> None:
    target = make_target("int8")

    def first(recipe: Recipe) -> Pass[object]:
        return BACKEND.passes(target, target.emit[0], recipe)[0]  # type: ignore[return-value]

    assert first(Recipe()) == first(Recipe(calibration="moving-average", float_layers=("stem",)))
    assert first(Recipe(calibration="mse")) == first(Recipe(calibration="entropy")) != first(Recipe())


def test_int16_activations_are_all_or_nothing() -> None:
    target = make_target("int8")
    wide = Recipe(activations="int16", calibration="mse")
    assert BACKEND.passes(target, target.emit[0], wide) == (
        QuantizeInt16(per_channel=True, runtimes=("ai-edge-litert", "tflite-runtime")),
    )
    assert list(BACKEND.reasons_against_recipe(target, target.emit[0], wide)) == []
    mixed = wide.model_copy(update={"float_layers": ("stem",)})
    (reason,) = BACKEND.reasons_against_recipe(target, target.emit[0], mixed)
    assert "all or nothing" in reason


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
        (make_target("int4-weight-only"), "no 4-bit weights"),
    ],
)
def test_impossible_targets_are_refused_with_the_reason(target: object, told: str) -> None:
    (reason,) = BACKEND.reasons_against(target, target.emit[0])  # type: ignore[attr-defined, arg-type]
    assert told in reason


def test_four_bits_where_litert_alone_is_judged() -> None:
    target = make_target("int4-weight-only", runtimes=("ai-edge-litert",), quantize=QuantSpec(block_size=16))
    assert list(BACKEND.reasons_against(target, target.emit[0])) == []
    assert BACKEND.passes(target, target.emit[0], Recipe()) == (QuantizeWeights(4, True, 16, ()),)
    assert BACKEND.weight_grid(target, target.emit[0]).limit == 7


def test_possible_target_is_not_refused() -> None:
    target = make_target("int8")
    assert list(BACKEND.reasons_against(target, target.emit[0])) == []


def test_a_runtime_without_a_wheel_for_this_python_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    target = make_target("int8")
    emit = target.emit[0]
    assert tried_runtimes(target, emit) == judged_runtimes(target, emit) == ("ai-edge-litert", "tflite-runtime")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert tried_runtimes(target, emit) == ("ai-edge-litert",)
    assert judged_runtimes(target, emit) == ("ai-edge-litert", "tflite-runtime")
    (int16,) = BACKEND.passes(target, emit, Recipe(activations="int16"))
    assert int16 == QuantizeInt16(per_channel=True, runtimes=("ai-edge-litert",))
    assert [item.missing for item in BACKEND.runtimes(target, emit)] == [
        "",
        "tflite-runtime has no wheel for this Python (3.13)",
    ]


def test_it_is_a_backend() -> None:
    backend: Backend[object] = BACKEND  # type: ignore[assignment]
    assert (backend.name, backend.format.name, backend.extra) == ("tflite", "tflite", "tflite-direct")
