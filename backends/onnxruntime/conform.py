"""What is valid ONNX and trips tools up, rewritten to the same function in the form they know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.onnxruntime.graph import constants, tensor_types

if TYPE_CHECKING:
    import onnx

    from edgec.model.spec import Array

_FUSION = re.compile(r"gemm_(input|output)_(shape|reshape_arg)(_token_\d+)*\Z")


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


def rename_fused(proto: onnx.ModelProto) -> None:
    """Give tensors of ONNX Runtime's MatMulAddFusion names that it does not use, in place.

    It calls the shapes around each Gemm that it makes by names of its own: in a graph that has them from an earlier run
    it makes two constants of one name, and fails.
    """
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = _without_fusion(name)
    for item in (*proto.graph.initializer, *proto.graph.value_info):
        item.name = _without_fusion(item.name)


def _without_fusion(name: str) -> str:
    return f"lowered_{name}" if _FUSION.match(name) else name


def simplify_gemms(proto: onnx.ModelProto) -> None:
    """Give constant biases of Gemm the shape [channels], and constants their factors alpha and beta, in place.

    ONNX lets a bias have any shape that broadcasts; those that differ by row become an Add. ONNX Runtime's quantizer
    takes biases to be lists, and loses beta.
    """
    from onnx import helper

    known, types = constants(proto), tensor_types(proto)
    nodes = []
    for node in proto.graph.node:
        nodes.append(node)
        if node.op_type != "Gemm":
            continue
        kind = types.get(node.input[1])
        if node.input[1] in known:
            _scale(proto, node, 1, "alpha", known)
        if len(node.input) < 3 or node.input[2] not in known:
            continue
        bias = _scale(proto, node, 2, "beta", known)
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        channels = kind.shape[0 if transposed else 1] if kind and kind.shape else 0
        if not channels or bias.shape == (channels,):
            continue
        if bias.size in (1, channels) and bias.shape[-1:] in ((), (1,), (channels,)):
            flat = np.broadcast_to(bias.reshape(-1), (channels,)).copy()
            node.input[2] = _add_constant(proto, flat, f"{node.input[2]}_flat_of_{node.output[0]}")
            continue
        made = f"{node.output[0]}_product"
        nodes.append(helper.make_node("Add", [made, node.input[2]], node.output, name=f"{node.name or made}_bias"))
        del node.input[2]
        node.output[0] = made
    if len(nodes) > len(proto.graph.node):
        kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del proto.graph.node[:]
        proto.graph.node.extend(kept)


def _scale(proto: onnx.ModelProto, node: onnx.NodeProto, position: int, factor: str, known: dict[str, Array]) -> Array:
    """Multiply the constant at input `position` by the attribute `factor`, which goes, in place; the constant then."""
    value = known[node.input[position]]
    attribute = next((item for item in node.attribute if item.name == factor), None)
    if attribute is None:
        return value
    scaled: Array = (value * attribute.f).astype(value.dtype)
    node.attribute.remove(attribute)
    if attribute.f != 1:
        name = f"{node.input[position]}_scaled_of_{node.output[0]}"
        node.input[position] = _add_constant(proto, scaled, name)
    return scaled


def _add_constant(proto: onnx.ModelProto, value: Array, name: str) -> str:
    from onnx import numpy_helper

    proto.graph.initializer.append(numpy_helper.from_array(value, name))
    return name
