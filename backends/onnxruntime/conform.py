"""What is valid ONNX and trips tools up, rewritten to the same function in the form they know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.onnxruntime.graph import constants, tensor_types

if TYPE_CHECKING:
    import onnx

    from edgec.model.spec import Array


def drop_constant_inputs(proto: onnx.ModelProto) -> None:
    """Take weights off the inputs, in place: files of IR version 3 list them there."""
    constant = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in constant]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)


def part_outputs(proto: onnx.ModelProto) -> None:
    """Put an Identity before every output that is an input, a constant or another output too, in place.

    Tools that rewrite the tensor before an output would else leave an output that nothing makes.
    """
    from onnx import helper

    graph = proto.graph
    taken = {item.name for item in (*graph.input, *graph.initializer)}
    for number, item in enumerate(graph.output):
        if item.name in taken:
            made = f"{item.name}_output_{number}"
            graph.node.append(helper.make_node("Identity", [item.name], [made], name=made))
            item.name = made
        taken.add(item.name)


def flatten_gemm_biases(proto: onnx.ModelProto) -> None:
    """Give constant biases of Gemm the shape [channels], in place; those that differ by row become an Add.

    ONNX lets them have any shape that broadcasts. ONNX Runtime's quantizer takes them to be lists.
    """
    from onnx import helper, numpy_helper

    known, types = constants(proto), tensor_types(proto)
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[2] not in known or node.input[1] not in types:
            continue
        shape, attributes = types[node.input[1]].shape, {item.name: item for item in node.attribute}
        channels = 0 if shape is None or len(shape) != 2 else shape[0 if _flag(attributes, "transB") else 1]
        bias = known[node.input[2]]
        if not channels or bias.shape == (channels,):
            continue
        if bias.size in (1, channels) and bias.shape[-1:] in ((), (1,), (channels,)):
            flat: Array = np.broadcast_to(bias.reshape(-1), (channels,)).copy()
            name = f"{node.input[2]}_of_{node.output[0]}"
            proto.graph.initializer.append(numpy_helper.from_array(flat, name))
            node.input[2] = name
            continue
        scale = attributes["beta"].f if "beta" in attributes else 1.0
        made, name = f"{node.output[0]}_product", f"{node.input[2]}_of_{node.output[0]}"
        proto.graph.initializer.append(numpy_helper.from_array((bias * scale).astype(bias.dtype), name))
        nodes.append(helper.make_node("Add", [made, name], node.output, name=f"{node.name or made}_bias"))
        del node.input[2]
        node.output[0] = made
    if len(nodes) > len(proto.graph.node):
        kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(kept)


def _flag(attributes: dict[str, onnx.AttributeProto], name: str) -> bool:
    return name in attributes and bool(attributes[name].i)
