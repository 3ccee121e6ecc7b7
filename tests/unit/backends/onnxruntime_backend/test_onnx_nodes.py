"""Breadth: ONNX's own single-op models between two matrix products, in int8.

Whatever the op, the products around it are int8, and it itself is int8 or float with a reason.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgec.model.spec import Array

from .onnx_builds import answers, build

CASES = (
    "test_averagepool_2d_dilations",
    "test_batchnorm_example",
    "test_concat_3d_axis_1",
    "test_conv_with_autopad_same",
    "test_convtranspose",
    "test_depthtospace_example",
    "test_expand_dim_changed",
    "test_gather_2d_indices",
    "test_gelu_tanh_1",
    "test_gemm_all_attributes",
    "test_group_normalization_example",
    "test_gru_defaults",
    "test_instancenorm_example",
    "test_layer_normalization_3d_axis1_epsilon",
    "test_lstm_with_initial_bias",
    "test_matmul_4d",
    "test_maxpool_2d_pads",
    "test_prelu_broadcast",
    "test_reduce_l2_keep_dims_random",
    "test_resize_upsample_scales_linear",
    "test_slice_neg_steps",
    "test_softmax_axis_1",
    "test_split_variable_parts_1d_opset18",
    "test_tile",
    "test_where_example",
)
"""One of each kind that tools treat in a way of its own."""


MODULES = [
    "averagepool",
    "batchnorm",
    "concat",
    "conv",
    "convtranspose",
    "depthtospace",
    "expand",
    "gather",
    "gelu",
    "gemm",
    "groupnormalization",
    "gru",
    "instancenorm",
    "layernormalization",
    "lstm",
    "matmul",
    "maxpool",
    "prelu",
    "reducel2",
    "resize",
    "slice",
    "softmax",
    "split",
    "tile",
    "where",
]
"""Where ONNX defines them; to collect those of all ops takes a quarter of a minute."""


@cache
def cases() -> dict[str, tuple[onnx.ModelProto, list[Array]]]:
    """Case -> its model and the values of its inputs."""
    from onnx.backend.test.case import node

    with np.errstate(all="ignore"):
        for module in MODULES:
            importlib.import_module(f"{node.__name__}.{module}")
    found = {case.name: case for case in node._NodeTestCases}
    return {name: (found[name].model, [np.asarray(item) for item in found[name].data_sets[0][0]]) for name in CASES}


def between_products(model: onnx.ModelProto, values: list[Array]) -> tuple[onnx.ModelProto, str, Array]:
    """The model with its first float input as its only one (as exporters write it) and a product at either end."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    first = next(at for at, value in enumerate(values) if value.dtype == np.float32)
    given, x = graph.input[first], values[first]
    graph.initializer.extend(
        numpy_helper.from_array(value, graph.input[at].name) for at, value in enumerate(values) if at != first
    )
    del graph.input[:]
    graph.input.append(given)
    (wanted,) = answers(model, [{given.name: x}])
    for node in graph.node:
        for position, tensor in enumerate(node.input):
            if tensor == given.name:
                node.input[position] = "product"
    graph.initializer.append(numpy_helper.from_array(near_identity(x.shape[-1]), "before"))
    nodes = [helper.make_node("MatMul", [given.name, "before"], ["product"], name="before"), *graph.node]
    for number, item in enumerate(graph.output):
        value = wanted[item.name]
        if value.dtype == np.float32 and value.ndim:
            graph.initializer.append(numpy_helper.from_array(near_identity(value.shape[-1]), f"after_{number}"))
            made = f"{item.name}_product"
            nodes.append(helper.make_node("MatMul", [item.name, f"after_{number}"], [made], name=f"after_{number}"))
            item.CopyFrom(helper.make_tensor_value_info(made, onnx.TensorProto.FLOAT, value.shape))
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return model, given.name, x


def near_identity(size: int) -> Array:
    """So that values stay where the op between is defined."""
    noise = np.random.default_rng(size).normal(size=(size, size)) / 100
    return (np.eye(size) + noise / np.sqrt(size)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_an_op_between_two_products(name: str, tmp_path: Path) -> None:
    model, given, x = between_products(*cases()[name])
    made = build(model, "int8", tmp_path / "int8", samples=[{given: x}])
    assert made.worst_db > 15
    products = [op for op in made.ops() if op.layer in ("before", *(f"after_{number}" for number in range(4)))]
    assert products
    assert all(op.dtype == "int8" for op in products)
