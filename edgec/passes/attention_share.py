"""Whether most of a model's arithmetic is in linear layers around attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.graph_edit import module_of, torch_call
from edgec.passes.multiplications import multiplications
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
    if model.graph is None or not any(_attends(node, model.graph) for node in model.graph.graph.nodes):
        return False
    values = values_of(model.graph, sample_tensors(model.inputs, seed=0))
    counts = multiplications(model.graph, values)
    sequences = sum(count for node, count in counts.items() if _over_sequence(node, model.graph, values))
    return 0 < sequences >= sum(counts.values()) - sequences


def _attends(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    return torch_call(node) in _ATTENTION or isinstance(module_of(node, graph), (nn.Softmax, nn.MultiheadAttention))


def _over_sequence(node: fx.Node, graph: fx.GraphModule, values: dict[fx.Node, Value]) -> bool:
    """Whether a product is a linear layer that is called for each position of a sequence."""
    from torch import nn

    module = module_of(node, graph)
    if isinstance(module, nn.MultiheadAttention):
        return True
    return not isinstance(module, nn.modules.conv._ConvNd) and len(values[node.all_input_nodes[0]].shape) >= _SEQUENCE
