"""ReLU6 and Hardtanh for free: the tensor before them is quantized to the clamp's range, and saturation clamps.

torch itself lets them share the observer of their input, so int8 steps are spent on what is clamped away; and its
quantized clamp scrambles channels-last tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx


def limits(node: fx.Node, graph: fx.GraphModule) -> tuple[float, float] | None:
    """Range of the clamp that `node` is, if it is one."""
    from torch import nn

    if node.op != "call_module":
        return None
    module: Any = graph.get_submodule(str(node.target))
    # ReLU6 is a Hardtanh
    return (float(module.min_val), float(module.max_val)) if isinstance(module, nn.Hardtanh) else None


def can_saturate(node: fx.Node, graph: fx.GraphModule) -> bool:
    """Whether the tensor before clamp `node` is made with a scale of its own and read by nothing else."""
    from torch import nn

    span = limits(node, graph)
    source: Any = node.args[0] if node.args else None
    if span is None or not span[0] <= 0.0 <= span[1] or len(getattr(source, "users", ())) != 1:
        return False
    if source.op == "placeholder":
        return True
    if source.op == "call_module":
        made = graph.get_submodule(str(source.target))
        convs = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d)
        return isinstance(made, (*convs, nn.Linear, nn.BatchNorm2d, nn.BatchNorm3d))
    return source.target in (operator.add, operator.mul)


def take_clamps_away(graph: fx.GraphModule, float_sources: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Erase the clamps that saturation stands for, and let all others be computed in float, in place.

    Leaving a module without a qconfig is not enough for the latter: torch runs a clamp on whatever its input is.

    Args:
        graph: float, not yet observed.
        float_sources: nodes whose output is not quantized, so that nothing would saturate, with their layers' names.

    Returns:
        For each erased clamp the name of the node before it, and its limits.
    """
    from edgec.backends.torch_quant.float_call import activation_of, call_in_float

    spans: dict[str, tuple[float, float]] = {}
    for node in list(graph.graph.nodes):
        span = limits(node, graph)
        if span is None:
            continue
        source: Any = node.args[0] if node.args else None
        if can_saturate(node, graph) and source.name not in float_sources:
            spans[source.name] = span
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
        else:
            made_by = getattr(source, "name", node.name)
            call_in_float(node, graph, activation_of(float_sources.get(made_by, made_by)))
    return spans
