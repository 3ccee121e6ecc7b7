"""Modules around the user's."""

from __future__ import annotations

from typing import Any

import torch

from edgec.model.outputs import tensors_of
from edgec.model.trace import Call


class AlwaysEval(torch.nn.Module):
    """`inner`, in eval mode whatever is asked: the modules of torch.export raise when a mode is set."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.training = False

    def train(self, mode: bool = True) -> AlwaysEval:
        """Stay in eval mode."""
        return self

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The result of `inner`."""
        return self.inner(*inputs)


class FlatOutputs(AlwaysEval):
    """Calls `inner`, by `call`, and returns its one tensor, or the tuple of its tensors."""

    def __init__(self, inner: torch.nn.Module, call: Call) -> None:
        super().__init__(inner)
        self._call = call

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The flat outputs of `inner` for `inputs`."""
        tensors = tensors_of(self._call(self.inner, inputs))
        return tensors[0] if len(tensors) == 1 else tuple(tensors)
