"""From the ops that ONNX Runtime executes back to the artifact's nodes and the user's layers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec.backends.onnxruntime.graph import consumers
from edgec.backends.onnxruntime.layers import find_all_layers

if TYPE_CHECKING:
    import onnx

_MADE = re.compile(r"(_nchwc|_token_\d+)+\Z")
"""What the runtime appends to the names of ops that it makes of others."""


@dataclass(frozen=True)
class Origin:
    """Where an executed op comes from.

    Attributes:
        node: its node in the artifact.
        layer: what the user calls it.
    """

    node: str
    layer: str


def origins(proto: onnx.ModelProto) -> dict[str, Origin]:
    """`plain_name` of what may be executed -> where that comes from, for the layers of an artifact.

    A fused op is called after its first node, or after the tensor it makes.
    """
    nodes, readers = {node.name: node for node in proto.graph.node}, consumers(proto)
    by_tensor: dict[str, Origin] = {}
    for layer in find_all_layers(proto):
        origin = Origin(layer.node, layer.name)
        tensor = nodes[layer.node].output[0]
        for name in (layer.node, tensor):
            by_tensor.setdefault(name, origin)
        users = readers.get(tensor, [])
        if len(users) == 1 and users[0].op_type in ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh"):
            by_tensor.setdefault(users[0].output[0], origin)
    return by_tensor


def plain_name(name: str) -> str:
    """The name of an executed op without what the runtime added."""
    return _MADE.sub("", name.removeprefix("fused "))


def layer_of(name: str) -> str:
    """The innermost module in a node name of torch's exporter: ``/blocks/blocks.0/Conv_quant`` -> ``blocks.0``."""
    parts = name.removeprefix("fused ").strip("/").split("/")
    return parts[-2] if len(parts) > 1 else ""
