"""Weights that several ops share, copied for each op before a quantizer that edits weights in place sees them.

ONNX Runtime's tools transpose the weight of each Gemm where it stands: two Gemms with one weight (tied layers, or
layers that an exporter found equal) transpose it twice. A weight that is a matrix here and an embedding there
cannot have one set of scales either.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from edgec.backends.onnxruntime.graph import consumers

if TYPE_CHECKING:
    import onnx

Role = tuple[str, int, bool]
"""Op, input position, and whether the op transposes it."""


def untie_weights(proto: onnx.ModelProto) -> None:
    """Give each role of a shared constant its own copy, in place. The function computed stays the same."""
    readers = consumers(proto)
    for item in list(proto.graph.initializer):
        roles: dict[Role, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        for node in readers.get(item.name, ()):
            for position, tensor in enumerate(node.input):  # what bodies of control flow read keeps its name
                if tensor == item.name:
                    roles[(node.op_type, position, _transposes(node))].append((node, position))
        for number, places in enumerate(list(roles.values())[1:], 1):
            copied = proto.graph.initializer.add()
            copied.CopyFrom(item)
            copied.name = f"{item.name}_untied_{number}"
            for node, position in places:
                node.input[position] = copied.name


def transpose_gemm_weights(proto: onnx.ModelProto) -> None:
    """Store constant weights of transposing Gemms transposed, once however many share them, in place."""
    from onnx import numpy_helper

    weights = {item.name: item for item in proto.graph.initializer}
    done: dict[str, str] = {}
    for node in proto.graph.node:
        if node.op_type != "Gemm" or not _transposes(node) or node.input[1] not in weights:
            continue
        name = node.input[1]
        if name not in done:
            done[name] = f"{name}_transposed"
            array = numpy_helper.to_array(weights[name]).T.copy()
            proto.graph.initializer.append(numpy_helper.from_array(array, done[name]))
        node.input[1] = done[name]
        next(item for item in node.attribute if item.name == "transB").i = 0
    _drop_unread(proto, done)


def separate_lstm_weights(proto: onnx.ModelProto) -> None:
    """Give each LSTM its own copy of its weights, in place."""
    weights = {item.name: item for item in proto.graph.initializer}
    taken: set[str] = set()
    for node in proto.graph.node:
        for position in (1, 2):
            if node.op_type != "LSTM" or (name := node.input[position]) not in weights:
                continue
            if name in taken:
                copied = proto.graph.initializer.add()
                copied.CopyFrom(weights[name])
                copied.name = f"{name}_of_{node.name}"
                node.input[position] = copied.name
            taken.add(name)


def _transposes(node: onnx.NodeProto) -> bool:
    return any(item.name == "transB" and item.i for item in node.attribute)


def _drop_unread(proto: onnx.ModelProto, names: dict[str, str]) -> None:
    read = set(consumers(proto)) | {item.name for item in proto.graph.output}
    for item in [item for item in proto.graph.initializer if item.name in names and item.name not in read]:
        proto.graph.initializer.remove(item)
