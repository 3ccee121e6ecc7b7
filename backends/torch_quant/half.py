"""Modules that hold half-precision weights and widen them on each call. Imports torch: for use inside functions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn

_SUFFIX = "_float16"


class Widened(nn.Module):
    """Calls `inner`, whose float32 weights are kept as float16 buffers."""

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
                if value is not None and value.dtype == torch.float32:
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
