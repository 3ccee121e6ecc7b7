"""Backends tell the constants of their artifacts apart by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgec.backends.interface import TensorReader
from edgec.backends.registry import BUILT_IN, get_backend


def reader(name: str) -> TensorReader:
    backend = get_backend(name)
    assert isinstance(backend, TensorReader)
    return backend


def changed(one: Mapping[str, str], other: Mapping[str, str]) -> set[str]:
    assert set(one) == set(other)
    return {name for name in one if one[name] != other[name]}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_backend_does(name: str) -> None:
    reader(name)


def test_onnx_files(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def write(file: Path, weight: float, constant: float, inner: float) -> Mapping[str, str]:
        value = [helper.make_tensor_value_info(title, TensorProto.FLOAT, [2]) for title in "xy"]
        condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])

        def array(number: float, title: str = "") -> TensorProto:
            return numpy_helper.from_array(np.full(2, number, np.float32), title)

        branch = helper.make_graph(
            [helper.make_node("Identity", ["deep"], ["b"])], "branch", [],
            [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2])], [array(inner, "deep")],
        )  # fmt: skip
        nodes = [
            helper.make_node("Constant", [], ["k"], value=array(constant)),
            helper.make_node("Add", ["x", "k"], ["s"]),
            helper.make_node("If", ["c"], ["i"], "choice", then_branch=branch, else_branch=branch),
            helper.make_node("Sum", ["s", "w", "i"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "g", [value[0], condition], value[1:], [array(weight, "w")])
        onnx.save(helper.make_model(graph), file)
        return reader("onnxruntime").tensors(file)

    first = write(tmp_path / "a.onnx", 1, 2, 3)
    assert set(first) == {"w", "k", "choice/deep"}
    assert changed(first, write(tmp_path / "b.onnx", 1, 2, 3)) == set()
    assert changed(first, write(tmp_path / "c.onnx", 5, 2, 3)) == {"w"}
    assert changed(first, write(tmp_path / "d.onnx", 1, 5, 3)) == {"k"}
    assert changed(first, write(tmp_path / "e.onnx", 1, 2, 5)) == {"choice/deep"}


@pytest.mark.parametrize("backend", ["fbgemm", "qnnpack"])
def test_torchscript_files(tmp_path: Path, backend: str) -> None:
    def write(name: str, bias: float, *, frozen: bool) -> Mapping[str, str]:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
        with torch.no_grad():
            module[2].bias.fill_(bias)
        traced = torch.jit.trace(module, torch.zeros(1, 4))
        torch.jit.save(torch.jit.freeze(traced) if frozen else traced, str(tmp_path / name))
        return reader(backend).tensors(tmp_path / name)

    first = write("a.pt", 1, frozen=False)
    assert {"0.weight", "0.bias", "2.weight", "2.bias"} <= set(first)
    assert changed(first, write("another name.pt", 1, frozen=False)) == set()
    assert changed(first, write("b.pt", 2, frozen=False)) == {"2.bias"}
    (only,) = changed(write("c.pt", 1, frozen=True), write("d.pt", 2, frozen=True))
    assert only.startswith("constants/")


def test_npz_files(tmp_path: Path) -> None:
    def write(name: str, value: int, dtype: str = "int8") -> Mapping[str, str]:
        np.savez(tmp_path / name, w=np.full(3, value, dtype), b=np.zeros(2))
        return reader("example").tensors(tmp_path / name)

    first = write("a.npz", 1)
    assert changed(first, write("b.npz", 1)) == set()
    assert changed(first, write("c.npz", 2)) == {"w"}
    assert changed(first, write("d.npz", 1, "uint8")) == {"w"}


def test_tflite_files(tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from edgec.backends.tflite.flatbuffer import pack

    def write(name: str, value: int = 3, scale: float = 0.25) -> Mapping[str, str]:
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.subgraphs, model.signatureDefs = 3, [graph], []
        graph.tensors = []
        for title in ("x", "w", "y"):
            tensor = schema.TensorT()
            tensor.name, tensor.shape, tensor.type = title, [4], schema.TensorType.INT8
            tensor.buffer = int(title == "w")
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
            graph.tensors.append(tensor)
        model.buffers = [schema.BufferT(), schema.BufferT()]
        model.buffers[1].data = np.full(4, value, np.uint8)
        code, op = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode, code.version = schema.BuiltinOperator.ADD, 1
        op.inputs, op.outputs = [0, 1], [2]
        model.operatorCodes, graph.operators, graph.inputs, graph.outputs = [code], [op], [0], [2]
        (tmp_path / name).write_bytes(pack(model))
        return reader("tflite").tensors(tmp_path / name)

    first = write("a.tflite")
    assert set(first) == {"w"}
    assert changed(first, write("b.tflite")) == set()
    assert changed(first, write("c.tflite", value=7)) == {"w"}
    assert changed(first, write("d.tflite", scale=0.5)) == {"w"}
