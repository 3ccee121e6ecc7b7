"""Users' names of products, and weights known again by their values."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgec.backends.tflite.module_paths import find_products, weight_key

RANDOM = np.random.default_rng(0)


def test_weights_are_known_whatever_their_layout() -> None:
    weight = RANDOM.standard_normal((4, 3, 2)).astype(np.float32)
    assert weight_key(weight) == weight_key(np.ascontiguousarray(weight.transpose(2, 0, 1)))
    assert weight_key(weight) != weight_key(weight * 2)


def test_products_of_a_graph() -> None:
    weights = {
        "inner.fc.weight": RANDOM.standard_normal((4, 4)).astype(np.float32),
        "shared": RANDOM.standard_normal((4, 4)).astype(np.float32),
        "bias": np.zeros(4, np.float32),
        "w": RANDOM.standard_normal((1, 8, 4)).astype(np.float32),
        "r": RANDOM.standard_normal((1, 8, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "inner.fc.weight", "bias"], ["a"], "/inner/other/Gemm"),
        helper.make_node("MatMul", ["a", "shared"], ["b"], "/inner/twice/MatMul"),
        helper.make_node("Add", ["b", "bias"], ["c"], "/inner/twice/Add"),
        helper.make_node("MatMul", ["c", "shared"], ["d"], "/inner/twice/MatMul_1"),
        helper.make_node("MatMul", ["d", "d"], ["e"], "/inner/attention/MatMul"),
        helper.make_node("LSTM", ["e", "w", "r"], ["f"], "/inner/lstm/LSTM", hidden_size=2),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 4])],
        [helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    found = find_products(helper.make_model(graph))
    assert [item.name for item in found] == ["fc", "twice", "twice_1", "lstm"]
    assert found[1].keys == found[2].keys == (weight_key(weights["shared"]),)
    whole, gate = weight_key(weights["w"]), weight_key(weights["w"][0, :2])
    assert {whole, gate} <= set(found[3].keys)
