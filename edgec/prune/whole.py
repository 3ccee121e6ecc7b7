"""Which layers keep their channels, and why."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import fx, nn

from edgec.errors import TargetError
from edgec.passes.graph_edit import module_of
from edgec.toml_source import suggest

WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
"""Layers whose output channels can be removed."""
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_ATTENTION = (
    nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder, nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)  # fmt: skip
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm)
_PRUNABLE = (*WEIGHTED, *_NORMS, nn.PReLU, nn.Embedding)

Reasons = dict[nn.Module, str]


def prunable_layers(graph: fx.GraphModule) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in the order of the module tree, each once."""
    return {name: module for name, module in graph.named_modules() if isinstance(module, WEIGHTED)}


def keep_outputs(graph: fx.GraphModule, ignore: Sequence[str]) -> Reasons:
    """Layers whose output channels stay: those that make the model's outputs, and those the user named.

    Args:
        graph: of the model.
        ignore: names or globs of layers; the name of a block means all layers in it.

    Raises:
        TargetError: a pattern matches no layer.
    """
    layers = prunable_layers(graph)
    reasons: Reasons = {}
    for pattern in ignore:
        matching = [name for name in layers if fnmatch.fnmatchcase(name, pattern) or _inside(name, pattern)]
        if not matching:
            raise TargetError(
                f'prune.ignore: no layer of the model is called "{pattern}"',
                hint=suggest(pattern, layers) or f"layers: {', '.join(layers)}",
            )
        reasons |= {layers[name]: "the target says so (prune.ignore)" for name in matching}
    return reasons | dict.fromkeys(_last_layers(graph), "an output of the model is made of them")


def leave_alone(graph: fx.GraphModule) -> Reasons:
    """Modules whose weights cannot shrink, neither by inputs nor by outputs."""
    counts = Counter(module_of(node, graph) for node in graph.graph.nodes)
    owners = Counter(id(value) for module in graph.modules() for value in module._parameters.values())
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    reasons: Reasons = {}
    for path, module in graph.named_modules():
        if isinstance(module, _RECURRENT + _ATTENTION):
            what = "a recurrent layer" if isinstance(module, _RECURRENT) else "an attention layer"
            reasons |= dict.fromkeys(module.modules(), f"{what} needs them")
        own = [(name, value) for name, value in module._parameters.items() if value is not None]
        if not own or module in reasons:
            continue
        called = counts[module]
        if called > 1:
            reasons[module] = "a layer that is called more than once needs them"
        elif called and any(owners[id(value)] > 1 or f"{path}.{name}" in read for name, value in own):
            reasons[module] = "weights that are read in more than one place need them"
        elif called and (not isinstance(module, _PRUNABLE) or module._forward_pre_hooks):
            reasons[module] = f"a {type(module).__name__} needs them"
    return reasons


def _inside(name: str, pattern: str) -> bool:
    parts = name.split(".")
    return any(fnmatch.fnmatchcase(".".join(parts[:count]), pattern) for count in range(1, len(parts)))


def _last_layers(graph: fx.GraphModule) -> list[nn.Module]:
    """The layers nearest to each output: nothing between them and it has weights of its own."""
    layers: list[nn.Module] = []
    seen: set[fx.Node] = set()
    queue: list[Any] = list(next(node for node in graph.graph.nodes if node.op == "output").all_input_nodes)
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        module = module_of(node, graph)
        if isinstance(module, WEIGHTED):
            layers.append(module)
        else:
            queue += node.all_input_nodes
    return layers
