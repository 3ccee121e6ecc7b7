"""Inputs and outputs of every form: scalars, batches, states whose batch axis is not the first, integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgec.target.spec import Precision

from .onnx_builds import build, graph_model
from .onnx_graphs import floats

NODE = helper.make_node
PRECISIONS: list[Precision] = ["fp32", "int8"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_scalar_beside_a_batch(precision: Precision, tmp_path: Path) -> None:
    nodes = [
        NODE("Gemm", ["x", "w"], ["g"], name="first"),
        NODE("Mul", ["g", "gain"], ["louder"]),
        NODE("Gemm", ["louder", "v"], ["y"], name="second"),
        NODE("ArgMax", ["y"], ["best"], axis=1, keepdims=0),
        NODE("ReduceSum", ["y"], ["total"], keepdims=0),
    ]
    constants = {"w": floats(8, 16), "v": floats(16, 4)}
    model = graph_model(nodes, constants, {"x": (3, 8), "gain": ()}, ["y", "best", "total"])
    made = build(model, precision, tmp_path / precision)
    assert made.worst_db > (100 if precision == "fp32" else 25)
    assert [item.shape for item in made.artifact.inputs] == [(3, 8), ()]
    assert [(item.shape, item.dtype) for item in made.artifact.outputs][1:] == [((3,), "int64"), ((), "float32")]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_state_whose_batch_axis_is_the_second(precision: Precision, tmp_path: Path) -> None:
    nodes = [
        NODE("GRU", ["x", "w", "r", "", "", "h0"], ["steps", "h"], name="cell", hidden_size=8, linear_before_reset=1),
        NODE("Squeeze", ["h", "first"], ["flat"]),
        NODE("Gemm", ["flat", "v"], ["y"], name="head"),
    ]
    constants = {"w": floats(1, 24, 5) / 3, "r": floats(1, 24, 8) / 3, "first": np.array([0]), "v": floats(8, 4)}
    model = graph_model(nodes, constants, {"x": (6, 2, 5), "h0": (1, 2, 8)}, ["y", "h"])
    made = build(model, precision, tmp_path / precision)
    assert made.worst_db > (100 if precision == "fp32" else 25)
    assert [item.shape for item in made.artifact.inputs] == [(6, 2, 5), (1, 2, 8)]
