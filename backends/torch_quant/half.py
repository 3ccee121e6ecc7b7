"""Modules that hold half-precision weights and widen them on each call."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

from edgec.quant.half import spared, to_half

_SUFFIX = "_float16"
_CHANNELS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase)
"""Layers whose weights' first axis is of output channels."""


def round_weights(graph: fx.GraphModule) -> tuple[tuple[str, ...], int]:
    """Make the weights of a graph values that float16 holds, in place, but for the smallest tensors.

    Returns:
        Names of tensors with values beyond float16's range, which stay as they are; and how many small ones do.
    """
    limit = torch.finfo(torch.float16).max
    floats = {name: value for name, value in graph.state_dict(keep_vars=True).items() if value.dtype == torch.float32}
    small = spared({name: value.numel() for name, value in floats.items()})
    beyond = []
    with torch.no_grad():
        for name, value in floats.items():
            if name in small:
                continue
            if bool((value.abs() > limit).any()):
                beyond.append(name)
                continue
            layer = graph.get_submodule(name.rpartition(".")[0])
            axis = 0 if isinstance(layer, _CHANNELS_FIRST) and value.dim() > 1 else None
            value.copy_(torch.from_numpy(to_half(value.detach().numpy(), axis)).float())
    return tuple(beyond), len(small)


class Widened(nn.Module):
    """Calls `inner`, whose weights are kept as float16 buffers where these hold them exactly."""

    def __init__(self, inner: fx.GraphModule) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner)
        calls = [node for node in self.inner.graph.nodes if node.op == "call_module"]
        for leaf in dict.fromkeys(self.inner.get_submodule(str(node.target)) for node in calls):
            _narrow(leaf, list(leaf.modules()))  # a composite looks at its parts' weights before it calls them
        inside = {part for node in calls for part in self.inner.get_submodule(str(node.target)).modules()}
        _narrow(self.inner, [part for part in self.inner.modules() if part not in inside])

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the graph returns."""
        return self.inner(*inputs)


def _narrow(called: nn.Module, parts: list[nn.Module]) -> None:
    """Keep the weights of `parts` in float16, and widen them when module `called` is."""
    narrowed: list[tuple[nn.Module, str]] = []
    for part in parts:
        for kept in (part._parameters, part._buffers):
            for name, value in list(kept.items()):
                if value is not None and value.dtype == torch.float32 and torch.equal(value, value.half().float()):
                    del kept[name]
                    part.register_buffer(name + _SUFFIX, value.detach().half())
                    narrowed.append((part, name))
        if isinstance(part, nn.RNNBase):
            # it keeps a list of its weights, which would go to the file in float32
            part._flat_weights = [None] * len(part._flat_weights_names)

    def widen(_: nn.Module, __: Any) -> None:
        for part, name in narrowed:
            setattr(part, name, getattr(part, name + _SUFFIX).float())

    if narrowed:
        called.register_forward_pre_hook(widen)
