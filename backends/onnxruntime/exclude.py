"""Which nodes static quantization must leave in float although their op has an 8-bit kernel, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.float_regions import BESIDE, Op, Role, beside, float_regions, role_of
from edgec.backends.onnxruntime.capability import FLOAT_PRODUCTS, STATIC_OPS, VALUE_PRESERVING
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
        for name in _beside(proto, layers, kept):
            excluded.setdefault(name, BESIDE)
    return excluded


def _float_regions(proto: onnx.ModelProto) -> dict[str, str]:
    """Nodes of the front end and of the post-processing, with the reason."""
    return float_regions(_ops(proto), {item.name for item in proto.graph.output})


def _ops(proto: onnx.ModelProto) -> list[Op]:
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

    return [op(node) for node in proto.graph.node]


def _channels(node: onnx.NodeProto) -> int:
    """The axis of a product's weight that counts what it makes of one place."""
    if node.op_type.endswith("Gemm"):
        return channel_axis(node)
    return 0 if node.op_type.endswith("Conv") else -1


def never_static(proto: onnx.ModelProto) -> frozenset[str]:
    """Nodes that are not static, whichever layers stay in float, where linear layers are dynamic."""
    layers = find_layers(proto)
    kept = [layer.node for layer in (*dynamic_layers(proto, layers), *embeddings(layers))]
    return frozenset({*kept, *_beside(proto, [layer.node for layer in layers], kept)})


def embeddings(layers: Iterable[PlacedLayer]) -> tuple[PlacedLayer, ...]:
    """Layers that look up rows, which all have one scale."""
    return tuple(layer for layer in layers if layer.op == "embedding")


def _beside(proto: onnx.ModelProto, layers: Collection[str], kept: Collection[str]) -> list[str]:
    """Quantizable nodes without weights that stay in float beside the layers `kept`, in execution order."""
    kinds = {node.name: node.op_type for node in proto.graph.node}
    ops = [op for op in _ops(proto) if kinds[op.name] in STATIC_OPS]
    names = beside(ops, kept, {*layers} - {*kept})
    return [op.name for op in ops if op.name in names and op.name not in layers]


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
