"""GELU as exporters write it becomes one node with the same function; what is not GELU stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgec.backends.tflite.rewrites.fuse_gelu import fuse_gelu

Nodes = list[tuple[str, list[str], str]]
ERF: Nodes = [("Div", ["x", "root"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "a")]
FORMS: dict[str, Nodes] = {
    "torch": [*ERF, ("Mul", ["x", "a"], "m"), ("Mul", ["m", "half"], "y")],
    "half of x": [*ERF, ("Mul", ["half", "x"], "h"), ("Mul", ["h", "a"], "y")],
    "half of the sum": [*ERF, ("Mul", ["a", "half"], "m"), ("Mul", ["x", "m"], "y")],
    "product": [
        ("Mul", ["inverse", "x"], "d"),
        ("Erf", ["d"], "e"),
        ("Add", ["one", "e"], "a"),
        ("Mul", ["a", "x"], "m"),
        ("Mul", ["half", "m"], "y"),
    ],
}
NOT_GELU: dict[str, Nodes] = {
    "other factor": [*ERF, ("Mul", ["x", "a"], "m"), ("Mul", ["m", "one"], "y")],
    "other input": [*ERF, ("Mul", ["z", "a"], "m"), ("Mul", ["m", "half"], "y")],
    "erf read twice": [*ERF, ("Mul", ["x", "a"], "m"), ("Mul", ["m", "half"], "g"), ("Add", ["g", "e"], "y")],
}


def model_of(nodes: Nodes) -> Any:
    values = {"root": 2**0.5, "inverse": 0.5**0.5, "one": 1.0, "half": 0.5}
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], name=output) for op, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in ("x", "z")],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-4, 4, 8, dtype=np.float32)[None]
    return session.run(None, {"x": x, "z": x + 1})[0]


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_fused_to_the_same_function(form: str) -> None:
    model = model_of(FORMS[form])
    before = run(model)
    assert fuse_gelu(model) == 1
    assert [node.op_type for node in model.graph.node] == ["Gelu"]
    np.testing.assert_allclose(run(model), before, atol=1e-6)


@pytest.mark.parametrize("form", NOT_GELU)
def test_what_is_not_gelu_stays(form: str) -> None:
    model = model_of(NOT_GELU[form])
    before = model.SerializeToString()
    assert fuse_gelu(model) == 0
    assert model.SerializeToString() == before
