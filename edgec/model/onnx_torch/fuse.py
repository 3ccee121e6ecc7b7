"""Layers as users wrote them, where an exporter has split them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn


def fuse_biases(graph: fx.GraphModule) -> None:
    """Move the constant that is added to a Linear without bias into it, in place: exporters write MatMul and Add."""
    buffers = dict(graph.named_buffers())
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or node.target is not torch.add or len(node.args) != 2:
            continue
        for layer, constant in (node.args, node.args[::-1]):
            bias = _bias_of(layer, constant, graph, buffers)
            if bias is not None:
                linear: Any = graph.get_submodule(layer.target)
                linear.bias = nn.Parameter(bias)
                node.replace_all_uses_with(layer)
                graph.graph.erase_node(node)
                break
    graph.graph.eliminate_dead_code()
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in buffers:
        if name not in read and "." not in name:
            delattr(graph, name)
    graph.delete_all_unused_submodules()
    graph.recompile()


def _bias_of(layer: Any, constant: Any, graph: fx.GraphModule, buffers: dict[str, torch.Tensor]) -> torch.Tensor | None:
    """The constant, if `layer` calls a Linear that can take it as its bias."""
    if not isinstance(layer, fx.Node) or layer.op != "call_module" or len(layer.users) != 1:
        return None
    module = graph.get_submodule(str(layer.target))
    if not isinstance(module, nn.Linear) or module.bias is not None:
        return None
    if not isinstance(constant, fx.Node) or constant.op != "get_attr":
        return None
    value = buffers.get(str(constant.target))
    if value is None or value.numel() != module.out_features or value.shape[-1:] != (module.out_features,):
        return None
    return value.detach().reshape(-1).clone()
