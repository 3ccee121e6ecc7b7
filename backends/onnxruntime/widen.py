"""Run on an x86 CPU without VNNI what was made for a device that adds int8 products in 32 bits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.onnxruntime.graph import consumers, graphs
from edgec.machine import host_machine, saturates

if TYPE_CHECKING:
    import onnx

_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def widen(file: Path, options: Any) -> str | bytes:
    """Have a session compute as the device does; returns what to open it with.

    The weights of quantized products become unsigned, with their zero-points 128 higher: the same values, in kernels
    that widen before they add. ``session.x64quantprecision`` has ONNX Runtime do so where weights are not inputs of a
    DequantizeLinear (of one that several nodes read, ONNX Runtime 1.23 fails at it). Other machines open the file as it
    is.

    Args:
        file: the ONNX file.
        options: the session's `onnxruntime.SessionOptions`; the setting is added where the machine needs it.
    """
    if not saturates(host_machine()):
        return str(file)
    import onnx

    options.add_session_config_entry("session.x64quantprecision", "1")
    proto = onnx.load(str(file))
    for graph in graphs(proto.graph):
        _make_unsigned(proto, graph)
    return bytes(proto.SerializeToString())


def _make_unsigned(proto: onnx.ModelProto, graph: onnx.GraphProto) -> None:
    from onnx import TensorProto

    codes = {item.name: item for item in graph.initializer if item.data_type == TensorProto.INT8}
    read_by = consumers(proto)
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in codes or not node.input[2:]:
            continue
        readers = read_by.get(node.output[0], [])
        if node.input[2] not in codes or not readers or {item.op_type for item in readers} - _PRODUCTS:
            continue
        for index in (0, 2):
            node.input[index] = _unsigned(graph, codes[node.input[index]])


def _unsigned(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> str:
    from onnx import numpy_helper

    name = f"{tensor.name}/unsigned"
    if all(item.name != name for item in graph.initializer):
        values = (numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8)
        graph.initializer.append(numpy_helper.from_array(values, name))
    return name
