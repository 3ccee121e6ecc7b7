"""fp16 as a storage format, for devices without fp16 arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from .onnx_builds import build, graph_model
from .onnx_graphs import floats

NODE = helper.make_node


def test_weights_are_stored_in_half_and_computed_in_float(tmp_path: Path) -> None:
    nodes = [
        NODE("Gemm", ["x", "w", "b"], ["g"], name="first"),
        NODE("Mul", ["g", "g"], ["power"]),
        NODE("Clip", ["power", "floor"], ["clipped"]),
        NODE("Log", ["clipped"], ["y"]),
    ]
    # squares of 30000 overflow fp16, and a floor of 1e-10 underflows
    constants = {"w": floats(32, 16) * 3000, "b": floats(16), "floor": np.float32(1e-10).reshape(())}
    model = graph_model(nodes, constants, {"x": (1, 32)}, ["y"])
    half, full = (build(model, precision, tmp_path / precision) for precision in ("fp16", "fp32"))
    assert half.worst_db > 60
    assert half.file.stat().st_size < 0.75 * full.file.stat().st_size
    stored = {item.name: item.data_type for item in onnx.load(str(half.file)).graph.initializer}
    assert stored["w_half"] == TensorProto.FLOAT16
    assert stored["b"] == TensorProto.FLOAT
    assert {op.dtype for op in half.ops()} == {"float32"}
    assert [item.state for item in half.coverage] == ["storage only"]


def test_weights_that_half_cannot_hold_stay_float_and_are_told(tmp_path: Path) -> None:
    nodes = [
        NODE("MatMul", ["x", "large"], ["a"], name="a"),
        NODE("MatMul", ["a", "small"], ["b"], name="b"),
        NODE("MatMul", ["b", "fair"], ["y"], name="c"),
    ]
    constants = {"large": floats(8, 8) * 1e5, "small": floats(8, 8) * 1e-7, "fair": floats(8, 8)}
    constants = {name: value.astype(np.float32) for name, value in constants.items()}
    made = build(graph_model(nodes, constants, {"x": (1, 8)}, ["y"]), "fp16", tmp_path / "fp16")
    told = {item.subject: item.reason for item in made.coverage if item.state == "float32"}
    assert set(told) == {"large", "small"}
    assert "beyond fp16" in told["large"]
    assert made.worst_db > 60
