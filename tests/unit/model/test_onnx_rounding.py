"""What counts as equal when an ONNX model and its torch graph are compared: rounding that the model amplifies."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edgec.model.from_onnx import torch_graph


def variance_of_nearly_equal_values() -> onnx.ModelProto:
    """``x / sqrt(mean(x * x) - mean(x)^2)`` of ``x = 1000 + input / 100``."""
    nodes = [
        helper.make_node("Mul", ["input", "hundredth"], ["small"]),
        helper.make_node("Add", ["small", "thousand"], ["x"]),
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["mean_square"], axes=[1]),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1]),
        helper.make_node("Mul", ["mean", "mean"], ["square_mean"]),
        helper.make_node("Sub", ["mean_square", "square_mean"], ["output"]),
    ]
    held = {"hundredth": 0.01, "thousand": 1000.0}
    graph = helper.make_graph(
        nodes,
        "variance",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 512])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


def test_rounding_that_the_model_amplifies_is_no_difference_but_another_function_is() -> None:
    proto = variance_of_nearly_equal_values()
    given = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    x = (given * np.float32(0.01) + np.float32(1000)).astype(np.float32)
    exact = np.array([[np.var(x.astype(np.float64))]], np.float32)
    rounded = exact + np.float32(0.05)
    assert torch_graph(proto, [([given], [rounded])]).graph is not None
    wrong = torch_graph(proto, [([given], [exact + np.float32(1000)])])
    assert wrong.graph is None
    assert "computes something else" in wrong.untraceable


def test_integers_must_be_equal() -> None:
    node = helper.make_node("ArgMax", ["input"], ["output"], axis=1, keepdims=0)
    graph = helper.make_graph(
        [node],
        "arg-max",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("output", TensorProto.INT64, [1])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    given = torch.tensor([[0.0, 3.0, 1.0, 2.0]]).numpy()
    assert torch_graph(proto, [([given], [np.array([1])])]).graph is not None
    assert torch_graph(proto, [([given], [np.array([2])])]).graph is None
