"""Which tensors of a graph an activation function alone reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.backends.onnxruntime.graph import constants, consumers
from edgec.quant.saturation import Reader, function_of

if TYPE_CHECKING:
    import onnx

_KINDS = {
    "Gelu": "gelu",
    "HardSwish": "hard-swish",
    "Mish": "mish",
    "Mul": "mul",
    "Sigmoid": "sigmoid",
}
"""Ops by their names in `edgec.quant.saturation`."""


def functions_read(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the function that alone reads it, where there is one."""
    known, ends = constants(proto), {item.name for item in proto.graph.output}

    def reader(node: onnx.NodeProto) -> Reader:
        inputs = tuple(name for name in node.input if name and name not in known)
        return Reader(_kind(node), inputs, tuple(node.output))

    readers = {tensor: [reader(node) for node in nodes] for tensor, nodes in consumers(proto).items()}
    functions = {tensor: function_of(tensor, items) for tensor, items in readers.items() if tensor not in ends}
    return {tensor: function for tensor, function in functions.items() if function is not None}


def _kind(node: onnx.NodeProto) -> str:
    stated = {item.name: item.f for item in node.attribute}
    if node.op_type == "HardSigmoid":  # the standard's own is another than the networks'
        slope, offset = stated.get("alpha", 0.2), stated.get("beta", 0.5)
        return "hard-sigmoid" if abs(slope - 1 / 6) < 1e-4 and offset == 0.5 else ""
    if node.op_type == "Elu":
        return "elu" if stated.get("alpha", 1.0) == 1.0 else ""
    return _KINDS.get(node.op_type, "")
