"""A call that torch's quantizer leaves alone. Imports torch: for use inside functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from edgec.passes.graph_edit import add_module


class FloatCall(nn.Module):
    """Calls a function or module in float, whatever the ops around it are: the quantizer knows no such module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """What the function returns."""
        result: torch.Tensor = self.function(*args, **kwargs)
        return result

    def extra_repr(self) -> str:
        """The function's name, for fingerprints."""
        return getattr(self.function, "__name__", "")


def activation_of(layer: str) -> str:
    """Name of the module for an activation that stays in float with the layer before it."""
    return f"{layer.replace('.', '_')}_activation"


def call_in_float(node: fx.Node, graph: fx.GraphModule, stem: str) -> None:
    """Make `node` (a function, a method or a module without weights) a `FloatCall` named like `stem`, in place.

    The name is the op's scope in the artifact.
    """
    function: Any = node.target
    if node.op == "call_module":
        function = graph.get_submodule(str(node.target))
    elif node.op == "call_method":
        function = getattr(torch.Tensor, str(node.target))
    with graph.graph.inserting_before(node):
        name = add_module(graph, stem, FloatCall(function))
        call = graph.graph.call_module(name, node.args, node.kwargs)
    node.replace_all_uses_with(call)
    graph.graph.erase_node(node)
