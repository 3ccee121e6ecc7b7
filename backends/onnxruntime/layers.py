"""The layers of a lowered graph: which nodes a recipe may quantize one by one, and what the user calls them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.backends.onnxruntime.graph import constants
from edgec.errors import PassError
from edgec.toml_source import suggest

if TYPE_CHECKING:
    import onnx

_EXPORTED = "inner."
"""edgec exports a module from within a wrapper, whose name for it leads all names that the exporter writes."""
_WEIGHT_AT = {"Conv": 1, "FusedConv": 1, "Gather": 0, "Gemm": 1, "FusedGemm": 1, "MatMul": 1}
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
        op: as `edgec.backend.protocol.Capability.op`.
        node: name of its node.
        weight: name of its weight.
    """

    name: str
    op: str
    node: str
    weight: str


def find_layers(proto: onnx.ModelProto) -> tuple[PlacedLayer, ...]:
    """All layers of a float graph, or those left in float in a quantized one, in execution order."""
    return _placed(proto, {})


def find_all_layers(proto: onnx.ModelProto) -> tuple[PlacedLayer, ...]:
    """All layers of a graph with weights in float or behind a DequantizeLinear; names are those of `find_layers`."""
    behind = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    return _placed(proto, behind)


def _placed(proto: onnx.ModelProto, behind: Mapping[str, str]) -> tuple[PlacedLayer, ...]:
    known = constants(proto)
    found = []
    for node in proto.graph.node:
        at = _WEIGHT_AT.get(node.op_type)
        if at is None or (source := behind.get(node.input[at], node.input[at])) not in known:
            continue
        weight = known[source]
        if weight.ndim >= 2 and (weight.dtype.kind == "f" or source != node.input[at]):
            found.append((node, source.removesuffix(_QUANTIZED) if source != node.input[at] else source, weight.shape))
    readers = Counter(weight for _, weight, _ in found)
    paths = [_path_of(node, weight if readers[weight] == 1 else "") for node, weight, _ in found]
    times = Counter(path for path, _ in paths)
    names = unique_names(path if times[path] == 1 else longer for path, longer in paths)
    return tuple(
        PlacedLayer(name, _kind(node, shape), node.name, weight)
        for name, (node, weight, shape) in zip(names, found, strict=True)
    )


def _path_of(node: onnx.NodeProto, weight: str) -> tuple[str, str]:
    """Module path by the weight's name or the node's, and one with the op, for modules that have several."""
    by_node = module_path(node.name)
    by_weight = weight.removesuffix(".weight").removeprefix(_EXPORTED) if weight.endswith(".weight") else ""
    own = node.name.strip("/").rpartition("/")[2]
    return by_weight or by_node or own, f"{by_node}.{own}" if by_node else own


def module_path(name: str) -> str:
    """The module in a node name of torch's exporter: ``/blocks/blocks.0/conv/Conv`` -> ``blocks.0.conv``; else "".

    Each part between slashes is a module's name in its parent; a part of a container repeats the container's name.
    """
    path: list[str] = []
    for part in name.removeprefix("fused ").strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return ".".join(path).removeprefix(_EXPORTED) if path != [_EXPORTED.rstrip(".")] else ""


def unique_names(names: Iterable[str]) -> list[str]:
    """The same names, with a number after those that were there before."""
    found: dict[str, None] = {}
    for name in names:
        number, candidate = 1, name
        while candidate in found:
            candidate = f"{name}_{number}"
            number += 1
        found[candidate] = None
    return list(found)


def select(layers: Iterable[PlacedLayer], names: Iterable[str], where: str) -> tuple[PlacedLayer, ...]:
    """The layers with these names.

    Raises:
        PassError: a name is no layer.
    """
    known = {layer.name: layer for layer in layers}
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"the model has {', '.join(known) or 'none'}"
            raise PassError(f'no layer is called "{name}"', where=where, hint=hint)
    return tuple(known[name] for name in names)


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a layer's weight that counts output channels."""
    if node.op_type.endswith("Gemm"):
        return 0 if any(item.name == "transB" and item.i for item in node.attribute) else 1
    return 0 if node.op_type.endswith("Conv") else 1


def _kind(node: onnx.NodeProto, shape: tuple[int, ...]) -> str:
    if node.op_type.endswith("Conv"):
        groups = next((item.i for item in node.attribute if item.name == "group"), 1)
        rank = len(shape) - 2
        return f"depthwise-conv{rank}d" if groups > 1 and shape[1] == 1 else f"conv{rank}d"
    return "embedding" if node.op_type == "Gather" else "linear"
