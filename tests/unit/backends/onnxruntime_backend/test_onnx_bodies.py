"""Weights that bodies of control flow read, and calibration samples that the model answers with NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from host_target import HAS_VNNI
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.onnxruntime.backend import OnnxRuntimeBackend
from edgec.backends.onnxruntime.calibrate import observe
from edgec.backends.onnxruntime.graph import OnnxModel, consumers, name_nodes
from edgec.backends.onnxruntime.quantize_dynamic import QuantizeDynamic
from edgec.backends.onnxruntime.quantize_weights import QuantizeWeights
from edgec.backends.onnxruntime.untie import transpose_gemm_weights
from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.passes.contract import PassContext
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.target.spec import Precision

from .onnx_graphs import floats, onnx_model

Info = helper.make_tensor_value_info


def branching() -> OnnxModel:
    """A product, and one of two more by its sign; the bodies share one weight with the main graph."""

    def body(name: str, weight: str) -> onnx.GraphProto:
        made = helper.make_node("Gemm", ["h", weight], [name], name=f"{name}_product", transB=1)
        return helper.make_graph([made], name, [], [Info(name, TensorProto.FLOAT, [1, 32])])

    nodes = [
        helper.make_node("Gemm", ["x", "shared"], ["h"], name="first", transB=1),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"], name="choice", then_branch=body("a", "shared"), else_branch=body("b", "inner")
        ),
    ]
    constants = {"shared": floats(32, 32), "inner": floats(32, 32) + 1, "zero": np.array(0, np.float32)}
    return onnx_model(nodes, constants, (1, 32), (1, 32))


def run(model: OnnxModel, x: Array) -> Array:
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def context(folder: Path, precision: Precision) -> PassContext:
    target = load_target("x86-64-int8", folder).target.model_copy(update={"precision": precision})
    return PassContext(target, folder, emit=target.emit[0])


def test_readers_inside_bodies_are_readers() -> None:
    readers = consumers(branching().proto)
    assert [node.name for node in readers["inner"]] == ["choice"]
    assert [node.name for node in readers["shared"]] == ["first", "choice"]
    assert [node.op_type for node in readers["h"]] == ["ReduceSum", "If"]


def test_transposed_weights_stay_for_the_bodies() -> None:
    model = branching()
    x = floats(1, 32)
    expected = run(model, x)
    transpose_gemm_weights(model.proto)
    np.testing.assert_allclose(run(model, x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("precision", ["int8-weight-only", "int8-dynamic"])
def test_bodies_keep_their_float_weights_and_are_told_of(precision: Precision, sign: int, tmp_path: Path) -> None:
    model = branching()
    step = QuantizeDynamic(codes="s8" if HAS_VNNI else "s7") if precision == "int8-dynamic" else QuantizeWeights(8)
    result = step.run(model, context(tmp_path, precision))
    x = floats(1, 32) * np.float32(sign)
    expected, found = run(model, x), run(result.model, x)
    assert 10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum()) > 25
    told = {item.subject: item.reason for item in result.coverage}
    assert told == {"choice": "quantizers do not look into the bodies of If, which hold 2 products"}


def test_dynamic_int8_tells_what_stays_in_float(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], name="conv"),
        helper.make_node("Flatten", ["c"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["m"], name="head"),
        helper.make_node("MatMul", ["m", "m"], ["y"], name="square"),
    ]
    weights = [numpy_helper.from_array(floats(4, 3, 1, 1), "kernel"), numpy_helper.from_array(floats(64, 1), "w")]
    inputs, outputs = [Info("x", TensorProto.FLOAT, [1, 3, 4, 4])], [Info("y", TensorProto.FLOAT, [1, 1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    name_nodes(proto)
    model = OnnxModel("g", proto, (TensorSpec(name="x", shape=(1, 3, 4, 4)),), (TensorSpec(name="y", shape=(1, 1)),))
    result = QuantizeDynamic().run(model, context(tmp_path, "int8-dynamic"))
    told = {item.subject: item.reason for item in result.coverage}
    assert set(told) == {"conv", "square"}
    assert "no dynamic int8 kernel for convolution" in told["conv"]
    assert "not constants" in told["square"]


@pytest.mark.parametrize("histogram", [False, True])
@pytest.mark.parametrize("place", [0, 5, 31])
def test_a_sample_answered_with_nan_is_refused_wherever_it_stands(histogram: bool, place: int, tmp_path: Path) -> None:
    model = branching()
    samples = [{"x": floats(1, 32)}, {"x": floats(1, 32)}]
    assert observe(model, samples, histogram=histogram, threads=1, work=tmp_path)
    samples[1]["x"][0, place] = np.nan
    with pytest.raises(DatasetError, match="NaN") as caught:
        observe(model, samples, histogram=histogram, threads=1, work=tmp_path)
    assert "sample 1" in str(caught.value.where)


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-weight-only", "int4-weight-only"])
def test_float_layers_are_refused_where_nothing_honours_them(precision: Precision, tmp_path: Path) -> None:
    target = context(tmp_path, precision).target
    reasons = OnnxRuntimeBackend().reasons_against_recipe(target, target.emit[0], Recipe(float_layers=("head",)))
    assert len(reasons) == 1
    assert "float layers" in reasons[0]
    assert not OnnxRuntimeBackend().reasons_against_recipe(target, target.emit[0], Recipe())
