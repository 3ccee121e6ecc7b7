"""Weight-only quantization: codes, kernels, sizes, and what the audit says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.onnxruntime.audit import executed_ops
from edgec.backends.onnxruntime.block_codes import Bits, block_codes, channel_codes
from edgec.backends.onnxruntime.graph import OnnxModel, canonical_bytes
from edgec.backends.onnxruntime.quantize_weights import QuantizeWeights
from edgec.errors import UnsupportedError
from edgec.model.spec import Array
from edgec.passes.contract import PassContext
from edgec.target.spec import Precision

from .onnx_graphs import floats, onnx_model

NO_CONTEXT: PassContext = None  # type: ignore[assignment]  # this pass reads nothing of it
PRECISIONS: dict[Bits, Precision] = {4: "int4-weight-only", 8: "int8-weight-only"}


def run(made: OnnxModel, x: Array) -> Array:
    session = onnxruntime.InferenceSession(made.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def sqnr(wanted: Array, got: Array) -> float:
    return 10 * float(np.log10(np.square(wanted).sum() / np.square(wanted - got).sum()))


def gemm(**attributes: Any) -> OnnxModel:
    nodes = [helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1, **attributes)]
    return onnx_model(nodes, {"fc.weight": floats(33, 70), "fc.bias": floats(33)}, (2, 70))


CASES = {
    "gemm": gemm(),
    "matmul": onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"], name="m")], {"w": floats(64, 24)}, (1, 5, 64)),
    "conv": onnx_model(
        [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="c", pads=[1] * 4)],
        {"w": floats(12, 8, 3, 3), "b": floats(12)},
        (1, 8, 10, 10),
    ),
    "transposed": onnx_model(
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="t", strides=[2, 2])],
        {"w": floats(8, 12, 3, 3)},
        (1, 8, 5, 5),
    ),
    "lstm": onnx_model(
        [
            helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="l", hidden_size=16),
            helper.make_node("Identity", ["h"], ["y"]),
        ],
        {"w": floats(1, 64, 12) / 4, "r": floats(1, 64, 16) / 4},
        (7, 1, 12),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("bits", "least"), [(4, 14.0), (8, 34.0)])
def test_the_runtime_computes_with_the_codes(name: str, bits: Bits, least: float, tmp_path: Path) -> None:
    before = CASES[name]
    step = QuantizeWeights(bits, block_size=16)
    result = step.run(before, NO_CONTEXT)
    assert step.ensures(result.model, NO_CONTEXT) is None
    x = floats(*before.inputs[0].shape)
    assert sqnr(run(before, x), run(result.model, x)) > least
    file = tmp_path / "model.onnx"
    file.write_bytes(canonical_bytes(result.model, shapes=False))
    told = [op for op in executed_ops(file, PRECISIONS[bits]) if op.reason.startswith("weight-only")]
    assert [op.dtype for op in told] == ["float32"]
    assert f"{bits}-bit weights" in told[0].reason
    stored = sum(len(item.raw_data) for item in result.model.proto.graph.initializer if "bias" not in item.name)
    full = sum(len(item.raw_data) for item in before.proto.graph.initializer if "bias" not in item.name)
    assert stored < full * (0.30 if bits == 4 else 0.45)


def test_eight_bits_say_that_inputs_are_rounded(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    words: dict[Bits, str] = {4: "computed in float32", 8: "rounded to int8 in blocks"}
    for bits, expected in words.items():
        made = QuantizeWeights(bits).run(gemm(), NO_CONTEXT).model
        file.write_bytes(canonical_bytes(made, shapes=False))
        (product,) = [op for op in executed_ops(file, PRECISIONS[bits]) if op.op == "MatMulNBits"]
        assert expected in product.reason


@pytest.mark.parametrize(("bits", "limit"), [(4, 7), (8, 127)])
def test_weights_on_the_channel_grid_keep_their_codes(bits: Bits, limit: int) -> None:
    random = np.random.default_rng(2)
    codes = random.integers(-limit, limit + 1, (6, 70))
    codes[:, 0] = limit  # the largest is in the first block only
    scale = random.uniform(0.01, 2, (6, 1)).astype(np.float32)
    weight = (codes * scale).astype(np.float32)
    found = block_codes(weight, 16, bits)
    assert found.zero_points is None
    np.testing.assert_allclose(found.scales, np.broadcast_to(scale, (6, 5)), rtol=1e-6)
    packed = found.packed.reshape(6, -1)
    stored = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(6, -1)
    np.testing.assert_array_equal(stored[:, :70].astype(int) - 2 ** (bits - 1), codes)
    by_channel, scales = channel_codes(weight.reshape(6, 7, 10), 0, bits)
    np.testing.assert_array_equal(by_channel.reshape(6, 70), codes)
    np.testing.assert_allclose(scales, scale[:, 0], rtol=1e-6)


def test_convolution_on_the_grid_is_computed_exactly() -> None:
    codes = np.random.default_rng(4).integers(-7, 8, (12, 8, 3, 3))
    codes[:, 0, 0, 0] = -7
    scale = np.float32(0.5)  # a power of two: float32 products with it are exact
    constants = {"w": (codes * scale).astype(np.float32)}
    before = onnx_model([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], constants, (1, 8, 6, 6))
    made = QuantizeWeights(4).run(before, NO_CONTEXT).model
    stored = {item.name: item for item in made.proto.graph.initializer}
    assert stored["w_quantized"].data_type == TensorProto.INT4
    np.testing.assert_array_equal(numpy_helper.to_array(stored["w_quantized"]).astype(int), codes)
    x = np.random.default_rng(1).integers(-8, 8, (1, 8, 6, 6)).astype(np.float32)
    np.testing.assert_array_equal(run(made, x), run(before, x))


def test_shared_weights_are_stored_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    before = onnx_model(nodes, {"w": floats(32, 32)}, (1, 32))
    made = QuantizeWeights(4).run(before, NO_CONTEXT).model
    first, second = made.proto.graph.node
    assert list(first.input[1:]) == list(second.input[1:])
    assert sqnr(run(before, floats(1, 32)), run(made, floats(1, 32))) > 12


def test_what_stays_float_is_told_and_small_models_are_refused() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "large"], ["a"], name="a"),
        helper.make_node("MatMul", ["a", "small"], ["y"], name="b"),
    ]
    step = QuantizeWeights(4)
    result = step.run(onnx_model(nodes, {"large": floats(32, 16), "small": floats(16, 4)}, (1, 32)), NO_CONTEXT)
    assert [(item.subject, item.state) for item in result.coverage] == [("b", "float32")]
    assert "under 256 elements" in result.coverage[0].reason
    scaled = step.run(
        onnx_model(
            [*nodes[:1], *gemm(alpha=0.5).proto.graph.node],
            {"large": floats(32, 70), "fc.weight": floats(33, 70), "fc.bias": floats(33)},
            (2, 32),
        ),
        NO_CONTEXT,
    )
    assert "alpha" in scaled.coverage[0].reason
    with pytest.raises(UnsupportedError, match="nothing of the model"):
        step.run(onnx_model(nodes[:1], {"large": floats(4, 4)}, (1, 4)), NO_CONTEXT)
