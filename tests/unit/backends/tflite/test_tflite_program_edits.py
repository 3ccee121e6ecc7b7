"""Edits of what the direct converter writes keep the function and leave the ops that kernels like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.backends.tflite import direct, onnx_graph
from edgec.backends.tflite.flatbuffer import indices, pack, read_ops, unpack
from edgec.backends.tflite.layout import match_output, sqnr_db
from edgec.backends.tflite.store_dynamic import store_dynamic
from edgec.backends.tflite.store_half import store_half
from edgec.model.spec import Array

RANDOM = np.random.default_rng(0)
FLOAT = onnx.TensorProto.FLOAT


def write(nodes: list[Any], shape: list[int], constants: dict[str, Array], folder: Path) -> Path:
    """An ONNX file from `x` to `y`."""
    held = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info("x", FLOAT, shape), helper.make_tensor_value_info("y", FLOAT, None)]
    proto = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    file = folder / "model.onnx"
    onnx.save(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    return file


def convert(file: Path, keep_layout: tuple[str, ...] = ()) -> bytes:
    """What the direct converter makes of it, tidied."""
    onnx_graph.prepare(file, file.with_name("simple.onnx"))
    work = file.with_name("work")
    work.mkdir()
    return direct.convert(file.with_name("simple.onnx"), keep_layout, work)


def run(content: bytes, samples: list[Array]) -> list[Array]:
    """Its only output for each sample, one after the other in one interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    answers = []
    for sample in samples:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return answers


def weights(*shape: int) -> Array:
    return (RANDOM.standard_normal(shape) * 0.3).astype(np.float32)


@pytest.fixture(scope="module")
def lstm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[Array]]:
    """An LSTM of 64 units: its file, its program, and sequences."""
    constants = {"w": weights(1, 256, 6), "r": weights(1, 256, 64)}
    nodes = [helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=64, name="lstm")]
    file = write(nodes, [9, 1, 6], constants, tmp_path_factory.mktemp("lstm"))
    return file, convert(file, ("input_0",)), [weights(9, 1, 6) for _ in range(3)]


def expected(file: Path, samples: list[Array]) -> list[Array]:
    return onnx_graph.reference_outputs(file, [{"x": sample} for sample in samples])[0]


def test_no_state_outlives_a_run(lstm: tuple[Path, bytes, list[Array]]) -> None:
    file, content, samples = lstm
    assert Counter(op.op for op in read_ops(content))["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1
    want = expected(file, samples)
    assert sqnr_db(want, [item.reshape(want[0].shape) for item in run(content, samples)]) > 100


@pytest.mark.parametrize(("stored", "least"), [("half", 55), ("dynamic", 30)])
def test_recurrent_weights_are_stored_narrow(lstm: tuple[Path, bytes, list[Array]], stored: str, least: float) -> None:
    file, content, samples = lstm
    model = unpack(content)
    count = (
        store_half(model)[0] if stored == "half" else store_dynamic(model, per_channel=True, per_channel_dense=False)
    )
    assert count
    narrow = pack(model)
    assert len(narrow) < 0.65 * len(content)
    want = expected(file, samples)
    assert sqnr_db(want, [item.reshape(want[0].shape) for item in run(narrow, samples)]) > least


def test_numbers_beyond_float16_and_single_ones_stay(tmp_path: Path) -> None:
    constants = {"large": np.array([1.0, 1e6], np.float32), "small": np.array(1e-12, np.float32)}
    nodes = [helper.make_node("Mul", ["x", "large"], ["m"]), helper.make_node("Add", ["m", "small"], ["y"])]
    model = unpack(convert(write(nodes, [1, 2], constants, tmp_path)))
    stored, beyond, small = store_half(model)
    assert (stored, len(beyond), small) == (0, 1, 0)


def test_products_on_three_axes_are_dense_with_their_bias_and_relu(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    file = write(nodes, [1, 3, 4], {"w": weights(4, 5), "b": weights(5)}, tmp_path)
    content = convert(file, ("input_0",))
    assert [op.op for op in read_ops(content)] == ["FULLY_CONNECTED"]
    samples = [weights(1, 3, 4)]
    assert sqnr_db(expected(file, samples), run(content, samples)) > 100


def test_uneven_pads_before_a_stride_are_the_convolutions_own(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[0, 0, 1, 1], strides=[2, 2]),
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3], keepdims=0),
    ]
    file = write(nodes, [1, 3, 8, 8], {"w": weights(4, 3, 3, 3)}, tmp_path)
    content = convert(file)
    assert {op.op for op in read_ops(content)} <= {"CONV_2D", "MEAN", "RESHAPE"}
    samples = [weights(1, 3, 8, 8)]
    assert sqnr_db(expected(file, samples), run(content, [samples[0].transpose(0, 2, 3, 1)])) > 100


def test_last_transposition_is_left_to_the_caller(tmp_path: Path) -> None:
    file = write([helper.make_node("Conv", ["x", "w"], ["y"])], [1, 3, 8, 6], {"w": weights(4, 3, 3, 3)}, tmp_path)
    content = convert(file)
    assert [op.op for op in read_ops(content)] == ["CONV_2D"]
    assert len(indices(unpack(content).subgraphs[0].outputs)) == 1
    samples = [weights(1, 3, 8, 6)]
    order, found = match_output(expected(file, samples), run(content, [samples[0].transpose(0, 2, 3, 1)]))
    assert order == (0, 3, 1, 2)
    assert found > 100


def test_refusal_names_the_op_and_its_node(tmp_path: Path) -> None:
    file = write([helper.make_node("Det", ["x"], ["y"], name="inner/det")], [2, 6, 6], {}, tmp_path)
    with pytest.raises(direct.NodeRefusedError, match=r"no form of Det \(node inner_det_0\)") as caught:
        convert(file)
    assert caught.value.node == "inner_det_0"
