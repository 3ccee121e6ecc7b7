"""The ONNX graph before conversion: branches decided, shapes known, probabilities found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.tflite import onnx_graph


def branch(name: str, weight: str) -> onnx.GraphProto:
    made = helper.make_node("MatMul", ["x", weight], [name], name=name)
    return helper.make_graph([made], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])])


def decided_by_shape() -> onnx.ModelProto:
    """An If whose condition follows from the shape of the input, as exporters of squeeze write it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["batch"]),
        helper.make_node("Equal", ["batch", "one"], ["is_one"]),
        helper.make_node(
            "If", ["is_one"], ["y"], then_branch=branch("then", "first"), else_branch=branch("else", "second")
        ),
        helper.make_node("Softmax", ["y"], ["z"], axis=1),
    ]
    constants = {
        "axis": np.array(0), "one": np.array(1), "first": np.eye(4, dtype=np.float32),
        "second": np.zeros((4, 4), np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "decided", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("way", ["simplify", "_folded_by_runtime"])
def test_branches_that_shapes_decide_are_gone(way: str) -> None:
    simple = getattr(onnx_graph, way)(decided_by_shape())
    assert "If" not in {node.op_type for node in simple.graph.node}
    assert {item.domain for item in simple.opset_import} == {""}


def test_which_outputs_are_probabilities(tmp_path: Path) -> None:
    model = decided_by_shape()
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]))
    onnx.save(model, tmp_path / "model.onnx")
    assert onnx_graph.are_probabilities(tmp_path / "model.onnx") == (True, False)
