"""A module around the user's that returns a flat tuple. Imports torch: only for use inside functions."""

from __future__ import annotations

from typing import Any

import torch

from edgec.model.outputs import tensors_of


class FlatOutputs(torch.nn.Module):
    """Calls `inner` and returns its one tensor, or the tuple of its tensors."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The flat outputs of ``inner(*inputs)``."""
        tensors = tensors_of(self.inner(*inputs))
        return tensors[0] if len(tensors) == 1 else tuple(tensors)
