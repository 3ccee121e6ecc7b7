"""Calls that torch's quantizer leaves alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from edgec.passes.graph_edit import add_module, module_of


class FloatCall(nn.Module):
    """Calls a function or module in float, whatever the ops around it are: the quantizer knows no such module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        return self.function(*args, **kwargs)

    def extra_repr(self) -> str:
        """The function's name, for fingerprints."""
        return getattr(self.function, "__name__", "")


def activation_of(layer: str) -> str:
    """Name of the module for an activation that stays in float with the layer before it."""
    return f"{layer.replace('.', '_')}_activation"


def call_in_float(node: fx.Node, graph: fx.GraphModule, stem: str) -> str:
    """Make `node` (a function, a method or a module without weights) a `FloatCall` named like `stem`, in place.

    The node keeps its name, by which statistics are known.

    Args:
        node: to be changed.
        graph: holds it.
        stem: beginning of the name of the new module.

    Returns:
        The module's path, which is the op's scope in the artifact.
    """
    function: Any = node.target
    if node.op == "call_module":
        function = graph.get_submodule(str(node.target))
    elif node.op == "call_method":
        function = getattr(torch.Tensor, str(node.target))
    with graph.graph.inserting_before(node):
        path = add_module(graph, stem, FloatCall(function))
        call = graph.graph.call_module(path, node.args, node.kwargs)
    node.replace_all_uses_with(call)
    graph.graph.erase_node(node)
    call.name = node.name
    return path


def calls_in_float(graph: fx.GraphModule, names: Mapping[str, str]) -> dict[str, str]:
    """Take calls out of the quantizer's sight, each with a ReLU that it would have fused to the call, in place.

    A module stays at its path, called in float by all that call it. Convolutions and linear layers are left as they
    are: without a qconfig the quantizer does not touch them either, and has their ReLU in one module with them.

    Args:
        graph: float, not yet observed.
        names: the layers' names by those of their nodes.

    Returns:
        The paths of the new modules, by the names of the layers.
    """
    scopes: dict[str, str] = {}
    wrapped: dict[int, FloatCall] = {}
    activations: set[fx.Node] = set()
    for node in list(graph.graph.nodes):
        if node in activations or node.name not in names or not node.op.startswith("call_"):
            continue
        module = module_of(node, graph)
        if isinstance(module, (FloatCall, *products())):
            continue
        layer = names[node.name]
        users = list(node.users)
        if len(users) == 1 and isinstance(module_of(users[0], graph), nn.ReLU):
            activations.add(users[0])
            call_in_float(users[0], graph, activation_of(layer))
        if module is None:
            scopes[layer] = call_in_float(node, graph, layer)
            continue
        if id(module) not in wrapped:
            wrapped[id(module)] = FloatCall(module)
        graph.set_submodule(str(node.target), wrapped[id(module)])
        scopes[layer] = str(node.target)
    graph.recompile()
    return scopes


def products() -> tuple[type[nn.Module], ...]:
    """Layers with weights that the quantizer leaves alone when they have no qconfig."""
    return (nn.Linear, nn.modules.conv._ConvNd)
