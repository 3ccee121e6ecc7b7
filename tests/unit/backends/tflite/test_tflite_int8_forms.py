"""Programs keep their function when ops are given a form that has an int8 kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.backends.tflite.direct import convert
from edgec.backends.tflite.flatbuffer import kind_of, pack, read_ops, unpack
from edgec.backends.tflite.int8_forms import MOST_PRODUCTS, divide_by_roots, unfold_products


def program(nodes: list[Any], inputs: dict[str, list[int]], folder: Path, **constants: Any) -> Any:
    """The float program of some ONNX nodes; their output is ``y``."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file = folder / "m.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(proto), file)
    return unpack(convert(file, [*inputs], folder))


def run(model: Any) -> Any:
    """Its output for random inputs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=pack(model))
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for item in sorted(interpreter.get_input_details(), key=lambda item: item["name"]):
        interpreter.set_tensor(item["index"], random.random(item["shape"], np.float32) + 0.5)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def kinds(model: Any) -> set[str]:
    return {op.op for op in read_ops(pack(model))}


@pytest.mark.parametrize(
    ("left", "right"),
    [([2, 3, 5, 4], [2, 3, 4, 6]), ([1, 7, 1], [1, 1, 5]), ([3, 5, 4], [4, 6]), ([4, 5], [5, 3])],
)
def test_products_are_written_out(left: list[int], right: list[int], tmp_path: Path) -> None:
    model = program([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": left, "b": right}, tmp_path)
    before = run(model)
    unfold_products(model)
    assert "BATCH_MATMUL" not in kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-5)


def test_too_many_products_and_broadcast_ones_stay(tmp_path: Path) -> None:
    many = MOST_PRODUCTS + 1
    for left, right in (([many, 2, 3], [many, 3, 2]), ([1, 2, 3], [4, 3, 2])):
        model = program([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": left, "b": right}, tmp_path)
        found = [kind_of(model, item) for item in model.subgraphs[0].operators]
        assert unfold_products(model) == 0
        assert [kind_of(model, item) for item in model.subgraphs[0].operators] == found


@pytest.mark.parametrize("divided", ["x", "one"])
def test_divisions_by_a_root_multiply(divided: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("Sqrt", ["v"], ["root"]), helper.make_node("Div", [divided, "root"], ["q"])]
    nodes.append(helper.make_node("Add", ["q", "x"], ["y"]))
    shapes = {"v": [1, 4, 1], "x": [1, 4, 6]}
    model = program(nodes, shapes, tmp_path, one=np.ones((), np.float32))
    before = run(model)
    assert divide_by_roots(model) == 1
    assert not {"DIV", "SQRT"} & kinds(model)
    np.testing.assert_allclose(run(model), before, rtol=1e-5)
