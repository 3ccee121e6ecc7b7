"""Which nodes static quantization must leave in float although their op has an 8-bit kernel, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.float_regions import Op, Role, float_regions, role_of
from edgec.backends.onnxruntime.capability import FLOAT_PRODUCTS, STATIC_COMPUTE, STATIC_OPS, VALUE_PRESERVING
from edgec.backends.onnxruntime.dynamic_linear import dynamic_layers
from edgec.backends.onnxruntime.graph import constants, producers
from edgec.backends.onnxruntime.layers import PlacedLayer, channel_axis, find_layers
from edgec.backends.onnxruntime.observe import excludes_zero

if TYPE_CHECKING:
    import onnx

SOFTMAX_REASON = "kept in float: it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
RANGE_REASON = "kept in float: its values are not finite or beyond 1e30 on the calibration samples"
CLIP_REASON = "kept in float: its bounds exclude zero, so saturation cannot do the clamping"
RECIPE_REASON = "kept in float by the recipe (sensitive)"
_ROLES: tuple[tuple[Role, frozenset[str]], ...] = (
    ("product", FLOAT_PRODUCTS | {"Attention"}),
    ("activation", frozenset({"Clip", "Relu"})),
    ("softmax", frozenset({"Softmax"})),
    ("move", VALUE_PRESERVING),
    ("join", frozenset({"Concat"})),
    ("sampling", frozenset({"AveragePool", "MaxPool", "Resize", "Upsample"})),
    ("arithmetic", frozenset({"Add", "Div", "Max", "Mean", "Min", "Mul", "Neg", "ReduceSum", "Slice", "Sub", "Sum"})),
    ("power", frozenset({"Abs", "DFT", "Pow", "ReduceL2", "ReduceSumSquare", "STFT", "Sqrt"})),
    ("logarithm", frozenset({"Log"})),
)
FOLLOWS_REASON = "computed in float, like the layers beside it that the recipe keeps so"
BESIDE_DYNAMIC = "computed in float: the linear layers beside it take float inputs, and quantize them as the model runs"
EMBEDDING_REASON = "kept in float: all its rows would have one scale, and the sum that follows is in float"


def nodes_to_exclude(
    proto: onnx.ModelProto,
    unusable: Collection[str],
    layers: Collection[str] = (),
    kept: Collection[str] = (),
) -> dict[str, str]:
    """Node name -> why it stays in float, for nodes of ops that would otherwise be quantized.

    Args:
        proto: the float graph.
        unusable: tensors that no 8-bit scale can hold.
        layers: nodes of all layers.
        kept: those of the layers that the recipe keeps in float.
    """
    excluded = dict.fromkeys(kept, RECIPE_REASON)
    known = constants(proto)
    bad = {*unusable} | {
        name
        for name, value in known.items()
        if value.dtype.kind == "f" and value.size and not (np.abs(value) <= 1e30).all()
    }
    for node in proto.graph.node:
        if node.op_type not in STATIC_OPS:
            continue
        if bad & {*node.input, *node.output}:
            excluded.setdefault(node.name, RANGE_REASON)
        elif node.op_type == "Clip" and excludes_zero(node, known):
            excluded.setdefault(node.name, CLIP_REASON)
    for name in _softmax_arguments(proto):
        excluded.setdefault(name, SOFTMAX_REASON)
    quantizable = {node.name for node in proto.graph.node if node.op_type in STATIC_OPS}
    for name, reason in _float_regions(proto).items():
        if name in quantizable:
            excluded.setdefault(name, reason)
    if kept:
        for name in _followers(proto, layers, kept):
            excluded.setdefault(name, FOLLOWS_REASON)
    return excluded


def _float_regions(proto: onnx.ModelProto) -> dict[str, str]:
    """Nodes of the front end and of the post-processing, with the reason."""
    known = constants(proto)

    def op(node: onnx.NodeProto) -> Op:
        read = tuple(name for name in node.input if name and name not in known)
        role: Role = role_of(node.op_type, _ROLES)
        if node.op_type == "Gather" and node.input[0] in known and known[node.input[0]].ndim >= 2:
            role = "product"  # an embedding
        elif node.op_type == "Add" and len(read) == 1:
            role = "bias"
        elif node.op_type == "Mul" and len(node.input) > 1 and node.input[0] == node.input[1]:
            role = "power"
        elif role == "product" and len(node.input) > 1 and node.input[1] in known:
            role = "mean" if known[node.input[1]].shape[_channels(node)] == 1 else "product"
        return Op(node.name, role, read, tuple(filter(None, node.output)))

    return float_regions([op(node) for node in proto.graph.node], {item.name for item in proto.graph.output})


def _channels(node: onnx.NodeProto) -> int:
    """The axis of a product's weight that counts what it makes of one place."""
    if node.op_type.endswith("Gemm"):
        return channel_axis(node)
    return 0 if node.op_type.endswith("Conv") else -1


def never_static(proto: onnx.ModelProto) -> frozenset[str]:
    """Nodes that are not static, whichever layers stay in float, where linear layers are dynamic."""
    layers = find_layers(proto)
    kept = [layer.node for layer in (*dynamic_layers(proto, layers), *embeddings(layers))]
    return frozenset({*kept, *_followers(proto, [layer.node for layer in layers], kept)})


def embeddings(layers: Iterable[PlacedLayer]) -> tuple[PlacedLayer, ...]:
    """Layers that look up rows, which all have one scale."""
    return tuple(layer for layer in layers if layer.op == "embedding")


def _followers(proto: onnx.ModelProto, layers: Collection[str], kept: Collection[str]) -> list[str]:
    """Weightless nodes that read a float layer, or from which no chain of weightless nodes leads to an integer product.

    Left to the quantizer they would round tensors that the recipe wants unrounded: a pool or a sum would get QDQ
    pairs of its own. A ReLU after an integer product is a part of it.
    """
    quantizable = [node for node in proto.graph.node if node.op_type in STATIC_OPS]
    weightless = [node for node in quantizable if node.name not in layers]
    made_by = producers(proto)
    floats = {*kept}
    for node in weightless:
        if any(tensor in made_by and made_by[tensor].name in floats for tensor in node.input):
            floats.add(node.name)
    products = [node for node in quantizable if node.op_type in STATIC_COMPUTE or node.name in layers]
    pending = [node for node in products if node.name not in floats]
    joined = {node.name for node in pending}
    passing = {node.name for node in weightless} - floats
    joined |= {
        node.name
        for node in weightless
        if node.op_type in ("Clip", "Relu") and node.input[0] in made_by and made_by[node.input[0]].name in joined
    } & passing
    while pending:
        node = pending.pop()
        for before in [made_by[tensor] for tensor in node.input if tensor in made_by]:
            if before.name in passing - joined:
                joined.add(before.name)
                pending.append(before)
    return [node.name for node in weightless if node.name not in joined]


def _softmax_arguments(proto: onnx.ModelProto) -> list[str]:
    """Elementwise nodes between a softmax and the matrix product (or whatever else) before it."""
    made_by = producers(proto)
    pending = [node.input[0] for node in proto.graph.node if node.op_type in ("Softmax", "LogSoftmax")]
    arguments: dict[str, None] = {}
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.op_type not in ("Add", "Mul", "Sub", "Div", "Where", "Reshape", "Transpose"):
            continue
        if node.name not in arguments:
            arguments[node.name] = None
            pending.extend(node.input)
    quantizable = {node.name for node in proto.graph.node if node.op_type in STATIC_OPS}
    return [name for name in arguments if name in quantizable]
