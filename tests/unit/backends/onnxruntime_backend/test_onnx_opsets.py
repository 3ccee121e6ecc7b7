"""Opsets from 8 to 24: raised, lowered or left, and always the same function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec.backends.onnxruntime.graph import opset

from .onnx_builds import build, graph_model, sqnr
from .onnx_graphs import floats

NODE = helper.make_node


def written(file: Path) -> int:
    return opset(onnx.load(str(file)))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_old_sampling_keeps_its_coordinates(mode: str, tmp_path: Path) -> None:
    # ONNX's converter makes a Resize of Upsample with other coordinates.
    nodes = [
        NODE("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
        NODE("Upsample", ["c", "scales"], ["u"], name="up", mode=mode),
        NODE("Conv", ["u", "v"], ["y"], name="out"),
    ]
    constants = {
        "w": floats(4, 3, 3, 3),
        "v": floats(2, 4, 1, 1),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    made = build(graph_model(nodes, constants, {"x": (1, 3, 6, 6)}, ["y"], opset=9), "int8", tmp_path / "int8")
    assert written(made.file) == 17
    assert made.worst_db > 25
    assert [op.op for op in made.ops()].count("QLinearConv") == 2


def test_what_the_converter_cannot_take_stays_at_its_opset(tmp_path: Path) -> None:
    body = helper.make_graph(
        [NODE("Add", ["sum", "item"], ["total"]), NODE("Identity", ["total"], ["seen"])],
        "body",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("sum", "item")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("total", "seen")],
    )
    nodes = [NODE("Scan", ["", "start", "x"], ["last", "y"], name="scan", num_scan_inputs=1, body=body)]
    model = graph_model(nodes, {"start": np.zeros((1, 2), np.float32)}, {"x": (1, 3, 2)}, ["last", "y"], opset=8)
    made = build(model, "fp32", tmp_path / "fp32")
    assert written(made.file) == 8
    assert made.worst_db > 100


@pytest.mark.parametrize("version", [22, 23])
def test_newer_opsets_are_lowered_where_the_ops_are_the_same(version: int, tmp_path: Path) -> None:
    nodes = [
        NODE("Conv", ["x", "w"], ["c"], name="conv"),
        NODE("GlobalAveragePool", ["c"], ["p"]),
        NODE("Flatten", ["p"], ["f"]),
        NODE("Gemm", ["f", "v"], ["y"], name="head"),
    ]
    model = graph_model(nodes, {"w": floats(4, 3, 3, 3), "v": floats(4, 5)}, {"x": (1, 3, 8, 8)}, ["y"], opset=version)
    made = build(model, "int8", tmp_path / "int8")
    assert written(made.file) == 21
    assert made.worst_db > 25


def test_ops_that_are_newer_than_the_runtime_become_what_they_are_defined_by(tmp_path: Path) -> None:
    nodes = [NODE("Gemm", ["x", "w"], ["g"], name="first"), NODE("Swish", ["g"], ["y"], name="swish", alpha=1.0)]
    model = graph_model(nodes, {"w": floats(8, 6)}, {"x": (1, 8)}, ["y"], opset=24)
    model.ir_version = 12
    samples = [{"x": floats(1, 8) * np.float32(scale)} for scale in (0.5, 1, -1)]
    products = [sample["x"] @ floats(8, 6) for sample in samples]
    wanted = [{"y": (product / (1 + np.exp(-product))).astype(np.float32)} for product in products]
    made = build(model, "fp32", tmp_path / "fp32", samples=samples, wanted=wanted)
    assert written(made.file) == 21
    assert made.worst_db > 100


def test_grouped_query_attention_is_computed_as_it_is_defined(tmp_path: Path) -> None:
    # ONNX Runtime 1.23's own kernel repeats the keys in another order.
    random = np.random.default_rng(1)
    key, value = (random.normal(size=(1, 2, 6, 8)).astype(np.float32) for _ in range(2))
    nodes = [NODE("Attention", ["q", "k", "v"], ["y"], name="attention")]
    model = graph_model(nodes, {"k": key, "v": value}, {"q": (1, 4, 5, 8)}, ["y"], opset=23)
    query = random.normal(size=(1, 4, 5, 8)).astype(np.float32)
    keys, values = (np.repeat(item, 2, axis=1) for item in (key, value))
    scores = query @ keys.swapaxes(2, 3) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    wanted = (weights @ values).astype(np.float32)
    made = build(model, "fp32", tmp_path / "fp32", samples=[{"q": query}], wanted=[{"y": wanted}])
    assert sqnr(wanted, made.runner({"q": query})["y"]) > 100
