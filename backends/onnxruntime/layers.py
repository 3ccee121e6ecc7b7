"""The layers of a lowered graph: which nodes a recipe may quantize one by one, and what the user calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.backends.layer_names import layer_path, unique_names
from edgec.backends.onnxruntime.graph import constants

if TYPE_CHECKING:
    import onnx

_WEIGHT_AT = {"Conv": 1, "FusedConv": 1, "Gather": 0, "Gemm": 1, "FusedGemm": 1, "MatMul": 1, "MatMulInteger": 1}
"""Op -> which of its inputs is the weight.

A layer is what has a constant weight. Sums, products and pools between layers take the dtype of what they read: a QDQ
pair on either side of an op is all that makes it integer, so between two int8 layers there is no float form of it.
"""
_QUANTIZED = "_quantized"
"""What the quantizers append to the name of a weight."""


@dataclass(frozen=True)
class PlacedLayer:
    """A layer and where it is.

    Attributes:
        name: module path in the user's model where it is known, else the op's own name; unique.
        op: as `edgec.backends.interface.Capability.op`.
        node: name of its node.
        weight: name of its weight.
    """

    name: str
    op: str
    node: str
    weight: str


def find_layers(proto: onnx.ModelProto) -> tuple[PlacedLayer, ...]:
    """All layers of a float graph, or those left in float in a quantized one, in execution order."""
    # named among all layers: the second call of a module keeps its number when the first is quantized
    return tuple(layer for layer, is_float in _placed(proto) if is_float)


def find_all_layers(proto: onnx.ModelProto) -> tuple[PlacedLayer, ...]:
    """All layers of a graph with weights in float or behind a DequantizeLinear; names are those of `find_layers`."""
    return tuple(layer for layer, _ in _placed(proto))


def _placed(proto: onnx.ModelProto) -> list[tuple[PlacedLayer, bool]]:
    """Layers, and whether their weights are in float."""
    behind = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    known = constants(proto)
    placed = []
    for node in proto.graph.node:
        at = _WEIGHT_AT.get(node.op_type)
        if at is None or (source := behind.get(node.input[at], node.input[at])) not in known:
            continue
        weight = known[source]
        quantized = source != node.input[at] or node.op_type == "MatMulInteger"
        if weight.ndim >= 2 and (weight.dtype.kind == "f" or quantized):
            placed.append((node, source.removesuffix(_QUANTIZED) if quantized else source, weight.shape))
    readers = Counter(weight for _, weight, _ in placed)
    names = unique_names(
        layer_path(node.name, weight if readers[weight] == 1 else "", node.op_type) for node, weight, _ in placed
    )
    return [
        (PlacedLayer(name, _kind(node, shape), node.name, weight), _is_float(node, known))
        for name, (node, weight, shape) in zip(names, placed, strict=True)
    ]


def _is_float(node: onnx.NodeProto, known: Collection[str]) -> bool:
    return node.op_type != "MatMulInteger" and node.input[_WEIGHT_AT[node.op_type]] in known


def transposes(node: onnx.NodeProto) -> bool:
    """Whether a Gemm's weight is (outputs, inputs)."""
    return any(item.name == "transB" and item.i for item in node.attribute)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's weight that counts output channels."""
    if node.op_type.endswith("Gemm"):
        return 0 if transposes(node) else 1
    return 0 if node.op_type.endswith("Conv") else 1


def _kind(node: onnx.NodeProto, shape: tuple[int, ...]) -> str:
    if node.op_type.endswith("Conv"):
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        rank = len(shape) - 2
        return f"depthwise-conv{rank}d" if groups > 1 and shape[1] == 1 else f"conv{rank}d"
    return "embedding" if node.op_type == "Gather" else "linear"
