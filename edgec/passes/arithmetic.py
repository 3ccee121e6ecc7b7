"""How much a model computes, and whether its linear layers should be quantized as the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.graph_edit import module_of, torch_call
from edgec.passes.multiplications import multiplications
from edgec.passes.node_values import values_of

if TYPE_CHECKING:
    from torch import fx

    from edgec.passes.node_values import Value

DynamicLinearPlace = Literal["first", "later", "never"]

_SEQUENCE = 3
"""Axes from which on a linear layer is called for each of many positions."""
_LEAST = 0.05
_ATTENTION = frozenset({"softmax", "scaled_dot_product_attention"})


@dataclass(frozen=True)
class Arithmetic:
    """What a model computes for one sample.

    Attributes:
        multiplications: by weights; 0: not known, as the model has no graph.
        dynamic_linear: when the ladder is to try dynamic linear layers. ``first`` where the model attends, and at least
            half of its multiplications are in layers over sequences: of such models static ranges lose most, as norms
            and softmax make tensors in which few channels are far larger than all others. ``never`` where less than
            `_LEAST` of them are in linear layers, which then decide nothing. ``later`` else.
    """

    multiplications: int
    dynamic_linear: DynamicLinearPlace


def arithmetic_of(model: FloatModel) -> Arithmetic:
    """Run a model once on random values and count."""
    if model.graph is None:
        return Arithmetic(0, "later")
    values = values_of(model.graph, sample_tensors(model.inputs, seed=0))
    counts = multiplications(model.graph, values)
    total = sum(counts.values())
    linear = sum(count for node, count in counts.items() if not _is_convolution(node, model.graph))
    if linear < _LEAST * total:
        return Arithmetic(total, "never")
    sequences = sum(count for node, count in counts.items() if _over_sequence(node, model.graph, values))
    attends = any(_attends(node, model.graph) for node in model.graph.graph.nodes)
    return Arithmetic(total, "first" if attends and 0 < sequences >= total - sequences else "later")


def _is_convolution(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    return isinstance(module_of(node, graph), nn.modules.conv._ConvNd)


def _attends(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    return torch_call(node) in _ATTENTION or isinstance(module_of(node, graph), (nn.Softmax, nn.MultiheadAttention))


def _over_sequence(node: fx.Node, graph: fx.GraphModule, values: dict[fx.Node, Value]) -> bool:
    """Whether a product is a linear layer that is called for each position of a sequence."""
    from torch import nn

    if isinstance(module_of(node, graph), nn.MultiheadAttention):
        return True
    return not _is_convolution(node, graph) and len(values[node.all_input_nodes[0]].shape) >= _SEQUENCE
