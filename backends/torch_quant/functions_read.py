"""Which tensors of a float graph an activation function alone reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.passes.graph_edit import module_of
from edgec.quant.saturation import Reader, function_of

if TYPE_CHECKING:
    from torch import fx

_KINDS = {
    "gelu": "gelu",
    "hardsigmoid": "hard-sigmoid",
    "hardswish": "hard-swish",
    "mish": "mish",
    "mul": "mul",
    "sigmoid": "sigmoid",
    "silu": "silu",
}
"""Functions, methods and classes of modules, in small letters, by their names in `edgec.quant.saturation`."""


def functions_read(graph: fx.GraphModule) -> dict[str, str]:
    """Node -> the function that alone reads what it makes, where there is one."""

    def reader(node: fx.Node) -> Reader:
        return Reader(_kind(node, graph), tuple(item.name for item in node.all_input_nodes), (node.name,))

    functions = {node.name: function_of(node.name, [reader(user) for user in node.users]) for node in graph.graph.nodes}
    return {name: function for name, function in functions.items() if function is not None}


def _kind(node: fx.Node, graph: fx.GraphModule) -> str:
    module = module_of(node, graph)
    if module is not None:
        return _KINDS.get(type(module).__name__.lower(), "")
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    return _KINDS.get(name.rstrip("_"), "")
