"""Static and dynamic int8: what is quantized, how finely, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgec.backends.torch_quant.collect import spread
from edgec.backends.torch_quant.judge import Candidate, best
from edgec.backends.torch_quant.kernels import fastest_first
from edgec.errors import DatasetError, UnsupportedError
from edgec.passes.contract import PassContext
from edgec.passes.multiplications import multiplications
from edgec.passes.node_values import values_of
from edgec.quant.recipe import Recipe
from edgec.target.spec import QuantSpec, Target

STEM, DEPTHWISE, POINTWISE, HEAD = 16 * 3 * 9, 16 * 9, 24 * 16, 5 * 24
"""Weights of the vision model's layers."""
VNNI = ("avx2", "avx512-vnni")
Compile = Callable[[str, Target], Any]
MakeTarget = Callable[..., Target]


def largest_pair(weights: torch.Tensor) -> int:
    """Largest sum of two codes of one sign in one output channel."""
    rows = weights.int_repr().int().flatten(1)
    return max(int((sign * rows).clamp_min(0).topk(2, dim=1).values.sum(1).max()) for sign in (1, -1))


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("model", ["vision", "signal"])
def test_static_int8_is_close_to_float(compiled: Compile, make_target: MakeTarget, backend: str, model: str) -> None:
    made = compiled(model, make_target(backend))
    assert made.sqnr_db() > 35
    assert made.quantized_weights()


@pytest.mark.parametrize(("backend", "dtype"), [("fbgemm", "float32"), ("qnnpack", "int8")])
def test_transposed_convolutions_are_right(
    compiled: Compile, make_target: MakeTarget, backend: str, dtype: str
) -> None:
    made = compiled("upscale", make_target(backend))
    assert made.sqnr_db() > 30
    transposed = [op for op in made.runner().ops() if "conv_transpose" in op.op]
    assert [op.dtype for op in transposed] == [dtype] * 2
    assert all(bool(op.reason) == (dtype == "float32") for op in transposed)


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_batch_norm_and_relu_become_part_of_integer_convolutions(
    compiled: Compile, make_target: MakeTarget, backend: str
) -> None:
    ops = [op.op for op in compiled("vision", make_target(backend)).runner().ops() if op.dtype != "cast"]
    # ReLU6 is gone: the convolutions before it saturate
    assert ops == ["quantized::conv2d_relu", "quantized::conv2d", "quantized::conv2d", "mean", "quantized::linear"]


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_weights_have_a_scale_each_channel(compiled: Compile, make_target: MakeTarget, backend: str) -> None:
    weights = compiled("vision", make_target(backend)).quantized_weights()
    assert set(weights) == {STEM, DEPTHWISE, POINTWISE, HEAD}
    for tensor in weights.values():
        assert len(set(tensor.q_per_channel_scales().tolist())) == tensor.shape[0]


def test_one_scale_a_tensor_when_the_target_says_so(compiled: Compile, make_target: MakeTarget) -> None:
    target = make_target("qnnpack", quantize=QuantSpec(weights="per-tensor"))
    schemes = {tensor.qscheme() for tensor in compiled("vision", target).quantized_weights().values()}
    assert schemes == {torch.per_tensor_affine}


def test_arm_weights_use_all_codes(compiled: Compile, make_target: MakeTarget) -> None:
    for tensor in compiled("vision", make_target("qnnpack")).quantized_weights().values():
        codes = tensor.int_repr().int().abs()
        assert int(codes.flatten(1).amax(1).min()) >= 127


@pytest.mark.parametrize(
    ("isa", "engine", "narrow"),
    [
        ((), "fbgemm", {STEM, DEPTHWISE, POINTWISE, HEAD}),
        ((), "x86", {STEM, DEPTHWISE, POINTWISE, HEAD}),
        ((), "onednn", {STEM, POINTWISE, HEAD}),
        (VNNI, "fbgemm", {DEPTHWISE}),
        (VNNI, "x86", set()),
        (VNNI, "onednn", set()),
    ],
)
def test_x86_weights_are_as_wide_as_the_kernel_takes(
    compiled: Compile, make_target: MakeTarget, isa: tuple[str, ...], engine: str, narrow: set[int]
) -> None:
    made = compiled("vision", make_target("fbgemm", isa=isa, engine=engine))
    assert made.artifact.engine == engine
    for size, tensor in made.quantized_weights().items():
        if size in narrow:
            assert largest_pair(tensor) <= 128
        else:
            assert largest_pair(tensor) > 128
            assert int(tensor.int_repr().int().abs().max()) >= 127


def test_reduced_range_can_be_forced_and_forbidden(compiled: Compile, make_target: MakeTarget) -> None:
    forced = compiled("vision", make_target("qnnpack", quantize=QuantSpec(reduced_range="yes")))
    for tensor in forced.quantized_weights().values():
        assert int(tensor.int_repr().int().abs().max()) <= 64
    forbidden = compiled("vision", make_target("fbgemm", engine="fbgemm", quantize=QuantSpec(reduced_range="no")))
    for tensor in forbidden.quantized_weights().values():
        assert int(tensor.int_repr().int().abs().max()) >= 127


def test_the_engine_is_chosen_by_measurement_and_recorded(compiled: Compile, make_target: MakeTarget) -> None:
    made = compiled("vision", make_target("fbgemm", engine="auto"))
    told = made.records[-1].summary
    assert told.startswith(f"{made.artifact.engine} engine")
    for engine in ("fbgemm", "x86", "onednn"):
        assert f"{engine}: " in told


def test_large_models_prefer_onednn_where_there_is_vnni() -> None:
    engines = ("fbgemm", "x86", "onednn")
    assert fastest_first(engines, 3_000_000, True) == engines
    assert fastest_first(engines, 300_000_000, False) == engines
    assert fastest_first(engines, 300_000_000, True) == ("onednn", "x86", "fbgemm")
    with torch.random.fork_rng(devices=[]):
        layers = [torch.nn.Conv2d(4, 8, 3, padding=1, groups=2), torch.nn.Flatten(), torch.nn.Linear(8 * 25, 3)]
    graph = torch.fx.symbolic_trace(torch.nn.Sequential(*layers))
    counts = multiplications(graph, values_of(graph, [torch.zeros(1, 4, 5, 5)]))
    assert list(counts.values()) == [8 * 25 * 2 * 9, 3 * 8 * 25]


def test_the_fastest_of_equally_exact_engines_is_chosen() -> None:
    slow, fast = Candidate("x86", 30.9, 0.97), Candidate("onednn", 30.2, 0.94)
    assert best([fast, slow]) == fast
    assert best([Candidate("onednn", 29.8, 0.97), slow]) == slow
    assert best([Candidate("onednn", 30.2, 0.90), slow]) == slow


def test_the_judge_looks_at_samples_from_everywhere() -> None:
    assert list(spread(256, 4)) == [0, 64, 128, 192]
    assert list(spread(3, 4)) == [0, 1, 2]


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
@pytest.mark.parametrize("model", ["sequence", "dense", "encoder"])
def test_dynamic_int8_is_close_to_float(compiled: Compile, make_target: MakeTarget, backend: str, model: str) -> None:
    assert compiled(model, make_target(backend, "int8-dynamic")).sqnr_db() > 30


def test_dynamic_int8_covers_recurrent_layers_and_says_what_it_leaves(
    compiled: Compile, make_target: MakeTarget
) -> None:
    made = compiled("sequence", make_target("fbgemm", "int8-dynamic"))
    ops = {op.op: op for op in made.runner().ops()}
    assert ops["quantized_lstm"].dtype == ops["quantized::linear_dynamic"].dtype == "int8"
    assert ops["embedding"].dtype == ops["mul"].dtype == "float32"
    assert not ops["embedding"].reason
    assert "covers Linear, LSTM and GRU only" in ops["mul"].reason
    assert [item.state for item in made.artifact.coverage if item.reason.startswith("mul")] == ["float32"]


def test_dynamic_weights_are_full_range_without_vnni(compiled: Compile, make_target: MakeTarget) -> None:
    for tensor in compiled("dense", make_target("fbgemm", "int8-dynamic")).quantized_weights().values():
        assert int(tensor.int_repr().int().abs().flatten(1).amax(1).min()) >= 127


def test_static_int8_leaves_recurrent_layers_in_float_with_a_reason(compiled: Compile, make_target: MakeTarget) -> None:
    made = compiled("sequence", make_target("qnnpack"))
    assert made.sqnr_db() > 30
    assert [op.reason for op in made.runner().ops() if op.op == "lstm"] == [
        "torch quantizes recurrent layers dynamically only (precision int8-dynamic)"
    ]


def test_a_model_of_which_nothing_can_be_quantized_is_refused(compiled: Compile, make_target: MakeTarget) -> None:
    with pytest.raises(UnsupportedError, match="nothing of the model can be computed in int8"):
        compiled("attention", make_target("qnnpack"))


def test_static_int8_without_samples_is_refused(make_target: MakeTarget, lowered: Any, tmp_path: Any) -> None:
    target = make_target("qnnpack")
    model, backend = lowered("dense", target)
    step = backend.passes(target, target.emit[0], Recipe())[-1]
    with pytest.raises(DatasetError, match="calibration"):
        step.run(model, PassContext(target=target, work=tmp_path))
