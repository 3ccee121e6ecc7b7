"""What of a graph stays in float although torch has a quantized kernel for it, and why."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.audit import RANGE, SOFTMAX

if TYPE_CHECKING:
    from torch import fx

    from edgec.quant.statistics import TensorStatistics

LIMIT = 1e30
"""Beyond this magnitude a step overflows all else; masks are often made of the largest float."""
_SOFTMAXES = ("softmax", "log_softmax")
_SHAPE = frozenset({"reshape", "view", "flatten", "transpose", "permute", "unsqueeze", "squeeze", "contiguous"})
_ELEMENTWISE = frozenset(
    {"add", "sub", "rsub", "mul", "div", "truediv", "true_divide", "neg", "where", "masked_fill"}
    | {"iadd", "isub", "imul", "itruediv", "add_", "sub_", "mul_", "div_", "masked_fill_"}
)
_QUESTIONS = frozenset({"getattr", "size", "dim", "numel", "getitem", "is_floating_point"})
"""Calls that compute nothing, and may return no tensor."""


def usable(statistics: TensorStatistics) -> bool:
    """Whether 8 bits can hold the tensor; one that calibration never reached is not judged."""
    return bool(statistics.low >= -LIMIT and statistics.high <= LIMIT)


def softmax_arguments(graph: fx.GraphModule) -> dict[str, str]:
    """Elementwise calls between a softmax and the product (or whatever else) before it; name of the node -> reason.

    Masks are added there, and their magnitude would leave all that they do not hide one single code.
    """
    pending: list[Any] = [node.all_input_nodes[0] for node in graph.graph.nodes if _is_softmax(node, graph)]
    arguments: dict[str, str] = {}
    seen: set[Any] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        name = _called(node)
        if _passes_on(node, graph) or name in _SHAPE:
            pending.extend(node.all_input_nodes[:1])  # the others are sizes
        elif name in _ELEMENTWISE:
            pending.extend(node.all_input_nodes)
        if name in _SHAPE or node.target in _quantizable():
            arguments[node.name] = SOFTMAX
    return arguments


def unusable_nodes(graph: fx.GraphModule, statistics: Mapping[str, TensorStatistics]) -> dict[str, str]:
    """Nodes that make or read a tensor that 8 bits cannot hold; name -> reason."""
    unusable: dict[str, str] = {}
    for node in graph.graph.nodes:
        if node.name in statistics and not usable(statistics[node.name]):
            for item in (node, *node.users):
                if item.op.startswith("call_") and _called(item) not in _QUESTIONS:
                    unusable[item.name] = RANGE
    return unusable


def _called(node: fx.Node) -> str:
    if node.op == "call_method":
        return str(node.target)
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _is_softmax(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    if not node.all_input_nodes:
        return False
    if node.op == "call_module":
        return isinstance(graph.get_submodule(str(node.target)), (nn.Softmax, nn.LogSoftmax))
    return _called(node) in _SOFTMAXES


def _passes_on(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    if node.op != "call_module":
        return False
    return isinstance(graph.get_submodule(str(node.target)), (nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten))


@cache
def _quantizable() -> frozenset[Any]:
    """Elementwise functions that torch would quantize."""
    import torch

    return frozenset({operator.add, operator.mul, torch.add, torch.mul})
