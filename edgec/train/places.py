"""Where int8 backends quantize activations: places in a graph, by what kind of op made the tensor."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgec.passes.graph_edit import module_of

if TYPE_CHECKING:
    from torch import fx

Kind = Literal["weights", "arithmetic", "own", "clamp", "unit", "tanh", "softmax", "same", "pool", "float"]
"""What is done with an op's result: ``weights``, ``arithmetic`` and ``own`` get a range of their own, after a clamp
that follows; ``same`` values need none; ``pool`` rounds to its input's; ``float`` is left alone."""

FIXED: dict[Kind, tuple[float, float]] = {
    "unit": (0.0, 255 / 256),
    "softmax": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}
"""Ranges that runtimes prescribe, whatever the data: scale 1/256 and 1/128 (TensorFlow Lite's int8 specification)."""

_METHODS: dict[str, Kind] = {
    **dict.fromkeys(("add", "add_", "sub", "sub_", "mul", "mul_"), "arithmetic"),
    **dict.fromkeys(("relu", "relu_"), "clamp"),
    "mean": "own",
    "sigmoid": "unit",
    "tanh": "tanh",
    "softmax": "softmax",
    **dict.fromkeys(
        ("view", "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "chunk", "split"),
        "same",
    ),
}


def kind_of(node: fx.Node, graph: fx.GraphModule) -> Kind:
    """The kind of the op that `node` calls."""
    if node.op == "call_module":
        return _module_kind(module_of(node, graph))
    if node.op == "call_method":
        return _METHODS.get(str(node.target), "float")
    return _functions().get(node.target, "float") if node.op == "call_function" else "float"


def _module_kind(module: Any) -> Kind:
    from torch import nn

    kinds: dict[Kind, tuple[type, ...]] = {
        "weights": (nn.Linear, nn.modules.conv._ConvNd),
        "own": (nn.LeakyReLU, nn.PReLU, nn.Hardswish, nn.SiLU, nn.GELU, nn.ELU, nn.Mish),
        "unit": (nn.Sigmoid, nn.Hardsigmoid),
        "tanh": (nn.Tanh,),
        "softmax": (nn.Softmax,),
        "same": (
            nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd, nn.modules.pooling._MaxPoolNd,
            nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.PixelShuffle, nn.ChannelShuffle,
        ),
        "pool": (nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.Upsample),
    }  # fmt: skip
    if isinstance(module, nn.Hardtanh):  # ReLU6 is one too
        return "clamp" if module.min_val <= 0 <= module.max_val else "own"
    if isinstance(module, nn.ReLU):
        return "clamp"
    return next((kind for kind, types in kinds.items() if isinstance(module, types)), "float")


def _functions() -> dict[Any, Kind]:
    import torch
    from torch.nn import functional as F  # noqa: N812

    arithmetic = (operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul)
    same = (
        operator.getitem, torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.squeeze, torch.unsqueeze,
        torch.chunk, torch.split, F.dropout, F.max_pool1d, F.max_pool2d, F.max_pool3d, F.pixel_shuffle,
    )  # fmt: skip
    pool = (
        F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
        F.interpolate,
    )  # fmt: skip
    kinds: dict[Any, Kind] = dict.fromkeys((*arithmetic, torch.add, torch.sub, torch.mul), "arithmetic")
    kinds |= dict.fromkeys((torch.cat, torch.concat), "arithmetic")
    kinds |= dict.fromkeys((torch.relu, F.relu, F.relu6), "clamp")
    kinds |= dict.fromkeys((F.leaky_relu, F.hardswish, F.silu, F.gelu, F.elu, torch.mean), "own")
    kinds |= dict.fromkeys((torch.sigmoid, F.sigmoid, F.hardsigmoid), "unit")
    kinds |= {torch.tanh: "tanh", F.tanh: "tanh", torch.softmax: "softmax", F.softmax: "softmax"}
    return kinds | dict.fromkeys(same, "same") | dict.fromkeys(pool, "pool")


@dataclass(frozen=True)
class Place:
    """A tensor that is to be rounded.

    Attributes:
        node: that makes it.
        range_of: node with whose range; `node` itself if it has one of its own.
        fixed: the range, where the op prescribes it.
        readers: who reads the rounded tensor; None: all.
    """

    node: fx.Node
    range_of: fx.Node
    fixed: tuple[float, float] | None = None
    readers: tuple[fx.Node, ...] | None = None


def places(graph: fx.GraphModule, floats: set[fx.Node]) -> list[Place]:
    """Where backends round activations, in execution order.

    Results of layers, arithmetic and activation functions are rounded, after the ReLU that follows where that alone
    reads them; so is what layers with weights read. Inside recurrent layers and attention everything stays float.

    Args:
        graph: the float model's.
        floats: the nodes whose result is one float tensor.
    """
    places: list[Place] = []
    ranges: dict[fx.Node, fx.Node] = {}
    """Rounded nodes, and those whose range they have."""
    for node in graph.graph.nodes:
        kind = kind_of(node, graph)
        if kind in ("weights", "arithmetic"):
            for source in node.all_input_nodes:
                if source in floats and source not in ranges and (kind == "weights" or _is_input(source, graph)):
                    _add_reader(places, source, node)
        if kind == "same" and node.all_input_nodes and node.all_input_nodes[0] in ranges:
            ranges[node] = ranges[node.all_input_nodes[0]]  # also tuples of tensors: chunks
        if node not in floats:
            continue
        if kind == "pool" and node.all_input_nodes[0] in ranges:
            ranges[node] = ranges[node.all_input_nodes[0]]
            places.append(Place(node, ranges[node]))
        elif kind in ("weights", "arithmetic", "own") and not _only_clamped(node, graph):
            ranges[node] = node
            places.append(Place(node, node))
        elif kind in ("clamp", "unit", "tanh") or (kind == "softmax" and _is_output(node)):
            ranges[node] = node
            places.append(Place(node, node, FIXED.get(kind)))
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    return sorted(places, key=lambda item: order[item.node])


def _add_reader(places: list[Place], source: fx.Node, reader: fx.Node) -> None:
    for index, place in enumerate(places):
        if place.node is source and place.readers is not None:
            places[index] = Place(source, source, readers=(*place.readers, reader))
            return
    places.append(Place(source, source, readers=(reader,)))


def _only_clamped(node: fx.Node, graph: fx.GraphModule) -> bool:
    return len(node.users) == 1 and kind_of(next(iter(node.users)), graph) == "clamp"


def _is_input(node: fx.Node, graph: fx.GraphModule) -> bool:
    while node.op != "placeholder" and kind_of(node, graph) == "same" and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node.op == "placeholder"


def _is_output(node: fx.Node) -> bool:
    return any(user.op == "output" for user in node.users)
