"""Whether most of a model's arithmetic is in linear layers around attention."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.graph_edit import constant, module_of
from edgec.passes.node_values import values_of

if TYPE_CHECKING:
    from torch import fx

    from edgec.passes.node_values import Value

_SEQUENCE = 3
"""Axes from which on a linear layer is called for each of many positions."""
_ATTENTION = frozenset({"softmax", "scaled_dot_product_attention"})


def attention_rules(model: FloatModel) -> bool:
    """Whether a model attends, and at least half of its multiplications by weights are in layers over sequences.

    False where the model has no graph. Of such models static ranges lose most: norms and softmax make tensors in which
    few channels are far larger than all others.
    """
    if model.graph is None:
        return False
    values = values_of(model.graph, sample_tensors(model.inputs, seed=0))
    attends, sequences, others = False, 0, 0
    for node in model.graph.graph.nodes:
        attends = attends or _attends(node, model.graph)
        count, over_sequence = _multiplications(node, model.graph, values)
        sequences, others = sequences + count * over_sequence, others + count * (not over_sequence)
    return attends and sequences > 0 and sequences >= others


def _attends(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    is_call = node.op in ("call_function", "call_method") and name in _ATTENTION
    return is_call or isinstance(module_of(node, graph), (nn.Softmax, nn.MultiheadAttention))


def _multiplications(node: fx.Node, graph: fx.GraphModule, values: dict[fx.Node, Value]) -> tuple[int, bool]:
    """Of a node by its weights, and whether it is a linear layer over a sequence."""
    from torch import nn

    if not node.all_input_nodes or not node.op.startswith("call_"):
        return 0, False
    module: Any = module_of(node, graph)
    taken = values[node.all_input_nodes[0]].shape
    if isinstance(module, nn.MultiheadAttention):
        return math.prod(taken) * 4 * module.embed_dim, True
    if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
        inputs = math.prod(module.weight.shape[1:])
        over_sequence = isinstance(module, nn.Linear) and len(taken) >= _SEQUENCE
        return math.prod(values[node].shape) * inputs, over_sequence
    if getattr(node.target, "__name__", "") == "linear" and len(node.args) > 1:
        known, weight = constant(node.args[1], graph)
        return (math.prod(taken) * weight.shape[0], len(taken) >= _SEQUENCE) if known else (0, False)
    return 0, False
