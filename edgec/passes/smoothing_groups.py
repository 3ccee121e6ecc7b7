"""Groups of linear layers that read one tensor, with the layer that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgec.passes.graph_edit import free_name, module_of
from edgec.passes.weight_layers import weight_layers

READ_ELSEWHERE = "something else reads what its norm makes, or no norm makes what it reads"


@dataclass(frozen=True)
class Reader:
    """A layer whose columns can be scaled.

    Attributes:
        module: an ``nn.Linear``, or the ``nn.MultiheadAttention`` whose query, key and value are one tensor.
        node: its one call.
        attribute: name of the weight.
    """

    module: Any
    node: fx.Node
    attribute: str = "weight"

    @property
    def weight(self) -> torch.Tensor:
        """The weight, shape (outputs, channels)."""
        weight: torch.Tensor = getattr(self.module, self.attribute).detach()
        return weight


@dataclass(frozen=True)
class Group:
    """Linear layers that read one tensor.

    Attributes:
        source: makes the tensor; its last axis are the channels.
        layers: who reads it.
        norm: the norm whose gain and bias can take the factors; None: it takes a multiplication.
    """

    source: fx.Node
    layers: tuple[Reader, ...]
    norm: Any


def find_groups(graph: fx.GraphModule, *, multiply: bool) -> tuple[list[Group], dict[str, str]]:
    """All groups, in the order of their tensors; and layers that are in none, with the reason.

    Args:
        graph: after the portable passes.
        multiply: whether tensors may be multiplied.
    """
    readers: dict[fx.Node, list[Reader]] = {}
    for reader in (*_linear_readers(graph), *_attention_readers(graph)):
        readers.setdefault(reader.node.all_input_nodes[0], []).append(reader)
    groups: list[Group] = []
    left: dict[str, str] = {}
    for source in graph.graph.nodes:
        if source not in readers:
            continue
        layers = tuple(readers[source])
        norm = _norm_for(source, {layer.node for layer in layers}, graph)
        if norm is None and not multiply:
            left |= {str(layer.node.target): READ_ELSEWHERE for layer in layers}
        else:
            groups.append(Group(source, layers, norm))
    return groups, left


def apply_factors(graph: fx.GraphModule, group: Group, factors: torch.Tensor) -> None:
    """Divide the channels of a group's tensor, and multiply the columns of its layers, in place.

    Args:
        graph: to change.
        group: layers that read one tensor.
        factors: [channels] of that tensor.
    """
    for layer in group.layers:
        scaled = nn.Parameter(layer.weight * factors, requires_grad=False)
        setattr(layer.module, layer.attribute, scaled)
    if group.norm is not None:
        for name in ("weight", "bias"):
            value = getattr(group.norm, name, None)
            if value is not None:
                setattr(group.norm, name, nn.Parameter(value.detach() / factors, requires_grad=False))
        return
    name = free_name(graph, f"{str(group.layers[0].node.target).replace('.', '_')}_smoothing")
    graph.register_buffer(name, 1 / factors)
    with graph.graph.inserting_after(group.source):
        constant = graph.graph.get_attr(name)
    with graph.graph.inserting_after(constant):
        product = graph.graph.call_function(torch.mul, (group.source, constant))
    for layer in group.layers:
        layer.node.replace_input_with(group.source, product)


def _linear_readers(graph: fx.GraphModule) -> list[Reader]:
    layers, _ = weight_layers(graph)
    return [
        Reader(layer.module, layer.nodes[0])
        for layer in layers
        if type(layer.module) is nn.Linear and len(layer.nodes) == 1
    ]


def _attention_readers(graph: fx.GraphModule) -> list[Reader]:
    """Attention modules with one tensor for query, key and value, in order."""
    calls = [(node, module_of(node, graph)) for node in graph.graph.nodes]
    readers = []
    for node, module in calls:
        if type(module) is not nn.MultiheadAttention or sum(other is module for _, other in calls) > 1:
            continue
        given = {*node.args[:3], *(node.kwargs[name] for name in ("query", "key", "value") if name in node.kwargs)}
        whole = len(given) == 1 and module.in_proj_weight is not None
        masks = {*node.args[3:], *node.kwargs.values()} - given
        if whole and not given & {item for item in masks if isinstance(item, fx.Node)}:
            readers.append(Reader(module, node, "in_proj_weight"))
    return readers


def _norm_for(source: fx.Node, readers: set[fx.Node], graph: fx.GraphModule) -> Any:
    """The norm that makes `source`, if it has gains of its own and nothing but `readers` sees what it makes."""
    if set(source.users) != readers:
        return None
    while isinstance(module_of(source, graph), (nn.Identity, nn.Dropout)):
        source = source.all_input_nodes[0]
        if len(source.users) != 1:
            return None
    norm: Any = module_of(source, graph)
    if type(norm) not in (nn.LayerNorm, nn.RMSNorm) or norm.weight is None or norm.weight.dim() != 1:
        return None
    calls = sum(module_of(node, graph) is norm for node in graph.graph.nodes)
    return norm if calls == 1 else None
