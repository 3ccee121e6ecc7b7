"""ReLU6 and Hardtanh for free: the tensor before them is quantized to the clamp's range, and saturation clamps.

torch itself lets them share the observer of their input, so int8 steps are spent on what is clamped away; and its
quantized clamp scrambles channels-last tensors.
"""

from __future__ import annotations

import operator
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


def clamp_in_float(graph: fx.GraphModule) -> int:
    """Replace clamps that saturation cannot stand for by ops that have no quantized kernel, in place.

    Leaving a module without a qconfig is not enough: torch runs a clamp on whatever its input is.

    Returns:
        How many clamps were replaced.
    """
    import torch

    replaced = 0
    for node in list(graph.graph.nodes):
        span = limits(node, graph)
        if span is None or can_saturate(node, graph):
            continue
        value = node.args[0]
        with graph.graph.inserting_before(node):
            for op, limit in ((torch.maximum, span[0]), (torch.minimum, span[1])):
                name = f"clamp_limit_{replaced}_{op.__name__}"
                graph.register_buffer(name, torch.tensor(limit))
                value = graph.graph.call_function(op, (value, graph.graph.get_attr(name)))
        node.replace_all_uses_with(value)
        graph.graph.erase_node(node)
        replaced += 1
    graph.delete_all_unused_submodules()
    graph.recompile()
    return replaced


def saturate(prepared: fx.GraphModule) -> int:
    """Narrow the observers before clamps of an observed and calibrated graph, and erase the clamps, in place.

    Returns:
        How many clamps were erased.
    """
    erased = 0
    for node in list(prepared.graph.nodes):
        span = limits(node, prepared)
        if span is None:
            continue
        before = node.args[0]
        after = next(iter(node.users), None)
        if not _is_observer(before, prepared) or len(before.users) != 1:
            continue
        if after is None or len(node.users) != 1 or not _is_observer(after, prepared):
            continue
        _narrow(prepared, str(before.target), span)
        after.replace_all_uses_with(before)
        prepared.graph.erase_node(after)
        prepared.graph.erase_node(node)
        erased += 1
    prepared.recompile()
    return erased


def _is_observer(node: Any, graph: fx.GraphModule) -> bool:
    from torch.ao.quantization import ObserverBase

    return node.op == "call_module" and isinstance(graph.get_submodule(str(node.target)), ObserverBase)


def _narrow(graph: fx.GraphModule, name: str, span: tuple[float, float]) -> None:
    import torch
    from torch.ao.quantization import HistogramObserver, MinMaxObserver

    old: Any = graph.get_submodule(name)
    if isinstance(old, HistogramObserver):
        # its range is the one it would choose, not all it has seen
        scale, zero = old.calculate_qparams()
        low, high = (float(scale * (limit - zero)) for limit in (0, 255))
    else:
        low, high = float(old.min_val), float(old.max_val)
    new = MinMaxObserver(quant_min=0, quant_max=255)
    new.min_val, new.max_val = torch.tensor(max(low, span[0])), torch.tensor(min(high, span[1]))
    for path, module in list(graph.named_modules(remove_duplicate=False)):
        if module is old:
            graph.set_submodule(path, new)
