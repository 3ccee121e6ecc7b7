"""Every backend knows which tensors an activation function alone reads."""

from __future__ import annotations

import torch
from onnx import TensorProto, helper
from torch import fx, nn

from edgec.backends.onnxruntime.functions_read import functions_read as of_onnx
from edgec.backends.tflite.functions_read import functions_read as of_tflite
from edgec.backends.torch_quant.functions_read import functions_read as of_torch


class Activations(nn.Module):
    """SiLU as a module and as two ops, hard-swish, and a tensor that is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))
        self.silu, self.swish = nn.SiLU(), nn.Hardswish()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.silu(self.a(x))
        second = self.b(first)
        third = self.c(second * torch.sigmoid(second))
        fourth = self.d(self.swish(third))
        return torch.tanh(fourth) + fourth


def test_torch() -> None:
    assert of_torch(fx.symbolic_trace(Activations())) == {"a": "silu", "b": "silu", "c": "hard-swish"}


def test_onnx() -> None:
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "x"], ["a"]),
        helper.make_node("HardSigmoid", ["a"], ["h"], alpha=1 / 6),
        helper.make_node("Mul", ["a", "h"], ["b"]),
        helper.make_node("HardSigmoid", ["b"], ["c"]),
        helper.make_node("Tanh", ["c"], ["d"]),
        helper.make_node("Elu", ["d"], ["y"], alpha=2.0),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xyc"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    assert of_onnx(helper.make_model(graph)) == {"x": "silu", "a": "hard-swish"}


def test_tflite() -> None:
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.buffers, model.operatorCodes, graph.operators = [schema.BufferT()], [], []
    graph.tensors = [schema.TensorT() for _ in range(4)]
    for tensor in graph.tensors:
        tensor.buffer = 0
    for kind, inputs, output in (("LOGISTIC", [0], 1), ("MUL", [0, 1], 2), ("HARD_SWISH", [2], 3)):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = len(model.operatorCodes) - 1, inputs, [output]
        graph.operators.append(operator)
    model.subgraphs = [graph]
    assert of_tflite(model) == {0: "silu", 2: "hard-swish"}
