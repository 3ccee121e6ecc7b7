"""Number of multiplications by weights of each call of a float graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec.passes.graph_edit import constant, module_of

if TYPE_CHECKING:
    from torch import fx

    from edgec.passes.node_values import Value


def multiplications(graph: fx.GraphModule, values: Mapping[fx.Node, Value]) -> dict[fx.Node, int]:
    """Call -> multiplications by weights for one sample: convolutions, linear layers and attention's projections.

    Args:
        graph: a float graph.
        values: of its nodes, for one sample.
    """
    counts = {node: _of_call(node, graph, values) for node in graph.graph.nodes if node.op.startswith("call_")}
    return {node: count for node, count in counts.items() if count}


def _of_call(node: fx.Node, graph: fx.GraphModule, values: Mapping[fx.Node, Value]) -> int:
    from torch import nn

    if not node.all_input_nodes:
        return 0
    module: Any = module_of(node, graph)
    taken = values[node.all_input_nodes[0]].shape
    if isinstance(module, nn.MultiheadAttention):
        return math.prod(taken) * 4 * int(module.embed_dim)
    if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
        return math.prod(values[node].shape) * math.prod(module.weight.shape[1:])
    if getattr(node.target, "__name__", "") == "linear" and len(node.args) > 1:
        known, weight = constant(node.args[1], graph)
        return math.prod(taken) * int(weight.shape[0]) if known else 0
    return 0
