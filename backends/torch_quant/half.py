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
        for part in self.inner.modules():
            _narrow(part)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What the graph returns."""
        return self.inner(*inputs)


def _narrow(module: nn.Module) -> None:
    names = []
    for kept in (module._parameters, module._buffers):
        for name, value in list(kept.items()):
            if value is not None and value.dtype == torch.float32:
                del kept[name]
                module.register_buffer(name + _SUFFIX, value.detach().half())
                names.append(name)
    if isinstance(module, nn.RNNBase):
        # it keeps a list of its weights, which would go to the file in float32
        module._flat_weights = [None] * len(module._flat_weights_names)

    def widen(part: nn.Module, _: Any) -> None:
        for name in names:
            setattr(part, name, getattr(part, name + _SUFFIX).float())

    if names:
        module.register_forward_pre_hook(widen)
