"""What ONNX files of many kinds load as: shapes, dtypes, notes, and what is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgec.errors import InputSpecError, ModelError
from edgec.model.export_onnx import export_onnx
from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.model.store import load, save
from edgec.project.spec import InputSpec, ModelSpec

N = helper.make_node
FLOAT, HALF, DOUBLE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
Dims = Sequence[int | str]


def _write(
    path: Path, nodes: Sequence[Any], inputs: dict[str, Dims], held: dict[str, Any] | None = None, *,
    kind: int = FLOAT, opset: int = 17, output: int | None = None, listed: bool = False,
) -> ModelSpec:  # fmt: skip
    """A file with inputs of `kind`, the output y, and constants; `listed`: these are inputs too, as in old files."""
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (held or {}).items()]
    given = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    if listed:
        given += [helper.make_tensor_value_info(item.name, item.data_type, item.dims) for item in tensors]
    results = [helper.make_tensor_value_info("y", output or kind, None)]
    graph = helper.make_graph(nodes, "g", given, results, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3 if listed else 8)
    onnx.save(onnx.shape_inference.infer_shapes(proto), path)
    return ModelSpec(path=path.name)


def _loaded(spec: ModelSpec, folder: Path) -> FloatModel:
    model = load_model(spec, folder)
    assert model.graph is not None, model.untraceable
    return model


def _dense(kind: type[np.floating[Any]]) -> dict[str, Any]:
    return {"w": np.random.default_rng(0).standard_normal((4, 3)).astype(kind)}


def test_float16_is_widened_and_told(tmp_path: Path) -> None:
    nodes = [
        N("MatMul", ["x", "w"], ["1"]),
        N("Cast", ["1"], ["2"], to=FLOAT),
        N("Softmax", ["2"], ["3"]),
        N("Cast", ["3"], ["y"], to=HALF),
    ]
    spec = _write(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, _dense(np.float16), kind=HALF)
    model = _loaded(spec, tmp_path)
    assert [item.dtype for item in (*model.inputs, *model.outputs)] == ["float32", "float32"]
    assert model.notes == ("the model's float16 values were converted to float32",)
    # the store has the widened file, and another process reads it
    assert save(model, tmp_path / "kept") == model.notes
    again = load(tmp_path / "kept")
    assert onnx.load(again.onnx).graph.input[0].type.tensor_type.elem_type == FLOAT  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no such file"):
        load_model(ModelSpec(path="other.onnx"), tmp_path)


def test_half_precision_inside_a_float32_model_is_widened(tmp_path: Path) -> None:
    nodes = [N("Cast", ["x"], ["1"], to=HALF), N("Add", ["1", "c"], ["2"]), N("Cast", ["2"], ["y"], to=FLOAT)]
    spec = _write(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"c": np.ones(4, np.float16)})
    assert "float16" in _loaded(spec, tmp_path).notes[0]


def test_float64_is_narrowed_and_told(tmp_path: Path) -> None:
    spec = _write(
        tmp_path / "m.onnx", [N("MatMul", ["x", "w"], ["y"])], {"x": ["N", 4]}, _dense(np.float64), kind=DOUBLE
    )
    stated = spec.model_copy(update={"inputs": (InputSpec(name="x", shape=(1, 4), dtype="float64"),)})
    model = _loaded(stated, tmp_path)
    assert model.inputs[0].dtype == "float32"
    assert model.notes == ("the model's float64 values were converted to float32",)


def test_float64_that_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    nodes = [N("Add", ["x", "large"], ["1"]), N("Sub", ["1", "large"], ["y"])]
    spec = _write(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"large": np.full(4, 1e12)}, kind=DOUBLE)
    with pytest.raises(ModelError, match="computes something else in float32"):
        load_model(spec, tmp_path)


def test_constants_in_float64_leave_a_model_as_it_is(tmp_path: Path) -> None:
    nodes = [N("Cast", ["c"], ["1"], to=FLOAT), N("Mul", ["x", "1"], ["y"])]
    model = _loaded(_write(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, {"c": np.array(0.5)}), tmp_path)
    assert model.notes == ()
    assert model.onnx == (tmp_path / "m.onnx").resolve()


def test_quantized_models_are_refused_with_their_ops(tmp_path: Path) -> None:
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"]),
        N("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    held = {"s": np.float32(0.1), "z": np.uint8(3)}
    spec = _write(tmp_path / "m.onnx", nodes, {"x": [1, 4]}, held)
    with pytest.raises(ModelError, match=r"already quantized \(DequantizeLinear, QuantizeLinear\): give the float"):
        load_model(spec, tmp_path)


def test_quantized_ops_in_a_branch_are_found(tmp_path: Path) -> None:
    held = {"s": np.float32(0.1), "z": np.uint8(3), "c": np.array(True)}
    inner = [N("DynamicQuantizeLinear", ["x"], ["q", "a", "b"]), N("DequantizeLinear", ["q", "a", "b"], ["t"])]
    info = helper.make_tensor_value_info
    then = helper.make_graph(inner, "then", [], [info("t", FLOAT, [1, 4])])
    other = helper.make_graph([N("Identity", ["x"], ["e"])], "else", [], [info("e", FLOAT, [1, 4])])
    node = N("If", ["c"], ["y"], then_branch=then, else_branch=other)
    spec = _write(tmp_path / "m.onnx", [node], {"x": [1, 4]}, held)
    with pytest.raises(ModelError, match="DynamicQuantizeLinear"):
        load_model(spec, tmp_path)


def test_old_files_that_list_constants_among_their_inputs(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    nodes = [
        N("Conv", ["input:0", "w"], ["1"], pads=[1] * 4),
        N("BatchNormalization", ["1", "s", "b", "m", "v"], ["2"]),
        N("Upsample", ["2", "f"], ["3"]),
        N("Dropout", ["3"], ["y"]),
    ]
    held = {"w": source.standard_normal((2, 3, 3, 3)), "s": np.ones(2), "b": np.ones(2), "m": np.ones(2)}
    held |= {"v": np.full(2, 4.0), "f": np.array([1.0, 1, 2, 2])}
    narrow = {name: value.astype(np.float32) for name, value in held.items()}
    spec = _write(tmp_path / "m.onnx", nodes, {"input:0": ["N", 3, 4, 4]}, narrow, opset=9, listed=True)
    model = _loaded(spec, tmp_path)
    assert [(item.name, item.shape) for item in model.inputs] == [("input:0", (1, 3, 4, 4))]
    assert model.outputs[0].shape == (1, 2, 8, 8)


def test_a_batch_is_one_wherever_its_name_is(tmp_path: Path) -> None:
    nodes = [N("MatMul", ["x", "w"], ["1"]), N("Add", ["1", "h"], ["y"])]
    spec = _write(tmp_path / "m.onnx", nodes, {"x": ["n", 4], "h": [2, "n", 3]}, _dense(np.float32))
    assert [item.shape for item in _loaded(spec, tmp_path).inputs] == [(1, 4), (2, 1, 3)]
    spec = _write(tmp_path / "m.onnx", [N("Relu", ["x"], ["y"])], {"x": [5, "batch_size", 4]})
    assert _loaded(spec, tmp_path).inputs[0].shape == (5, 1, 4)


def test_a_stated_size_holds_for_all_inputs(tmp_path: Path) -> None:
    spec = _write(tmp_path / "m.onnx", [N("Add", ["x", "z"], ["y"])], {"x": [1, "time"], "z": [1, "time"]})
    stated = spec.model_copy(update={"inputs": (InputSpec(name="x", shape=(1, 7)),)})
    assert [item.shape for item in _loaded(stated, tmp_path).inputs] == [(1, 7), (1, 7)]


def test_an_open_shape_is_asked_for_with_the_flag(tmp_path: Path) -> None:
    spec = _write(tmp_path / "m.onnx", [N("Relu", ["x:0"], ["y"])], {"x:0": ["n", "time", 4]})
    with pytest.raises(InputSpecError, match="the shape is not fixed") as caught:
        load_model(spec, tmp_path)
    assert "--input x:0:1xtimex4" in caught.value.hint


def test_integer_and_bool_outputs(tmp_path: Path) -> None:
    spec = _write(tmp_path / "m.onnx", [N("ArgMax", ["x"], ["y"], axis=1)], {"x": [1, 4]}, output=TensorProto.INT64)
    assert _loaded(spec, tmp_path).outputs[0].dtype == "int64"
    spec = _write(tmp_path / "m.onnx", [N("Greater", ["x", "c"], ["y"])], {"x": [1, 4]}, {"c": np.float32(0)}, output=9)
    model = _loaded(spec, tmp_path)
    assert model.outputs[0].dtype == "bool"
    assert model.graph is not None
    assert model.graph(torch.tensor([[1.0, -1.0, 2.0, 0.0]])).tolist() == [[True, False, True, False]]


def test_an_op_that_onnx_runtime_lacks_is_named(tmp_path: Path) -> None:
    spec = _write(tmp_path / "m.onnx", [N("LpNormalization", ["x"], ["y"])], {"x": [1, 4]}, opset=22)
    with pytest.raises(ModelError, match=r"ONNX Runtime, which edgec judges by, cannot run the model: .*LpNormaliz"):
        load_model(spec, tmp_path)


def test_a_shape_that_inference_does_not_find_is_written_into_the_file(tmp_path: Path) -> None:
    # the shape is computed by arithmetic that ONNX's own inference does not follow
    nodes = [
        N("Shape", ["x"], ["shape"]),
        N("Cast", ["shape"], ["floats"], to=FLOAT),
        N("Floor", ["floats"], ["floors"]),
        N("Cast", ["floors"], ["sizes"], to=TensorProto.INT64),
        N("Reshape", ["x", "sizes"], ["y"]),
    ]
    spec = _write(tmp_path / "model.onnx", nodes, {"x": (1, 4)})
    assert not all(
        dim.HasField("dim_value")
        for dim in onnx.load(tmp_path / "model.onnx").graph.output[0].type.tensor_type.shape.dim
    )
    written = onnx.load(export_onnx(load_model(spec, tmp_path), tmp_path / "fixed.onnx"))
    assert [item.dim_value for item in written.graph.output[0].type.tensor_type.shape.dim] == [1, 4]
