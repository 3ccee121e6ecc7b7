"""The observer of activations: edgec's statistics in torch's place."""

from __future__ import annotations

import torch
from torch.ao.quantization import ObserverBase

from edgec.quant.qparams import qparams
from edgec.quant.statistics import TensorStatistics

CODES = 256
"""torch's quantized activations are quint8, 0 to 255, with a scale and a zero-point for the tensor."""


class RangeObserver(ObserverBase):
    """Hands what passes to `statistics`, and quantizes to `span` once it is set.

    Attributes:
        statistics: None while nothing is to be collected.
        batched: whether what passes holds several samples, along its first axis.
        clamp: limits that a clamp, erased from the graph, held this tensor to; saturation does the same in int8.
        span: lowest and highest real value that have a code.
    """

    qscheme = torch.per_tensor_affine
    quant_min = 0
    quant_max = CODES - 1

    def __init__(self) -> None:
        super().__init__(dtype=torch.quint8)
        self.statistics: TensorStatistics | None = None
        self.batched = False
        self.clamp: tuple[float, float] | None = None
        self.span: tuple[float, float] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`, clamped."""
        if self.clamp is not None:
            x = x.clamp(*self.clamp)
        if self.statistics is not None:
            take_in = self.statistics.observe_batch if self.batched else self.statistics.observe
            take_in(x.detach().numpy())
        return x

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Scale (float32) and zero-point, of one element each."""
        if self.span is None:
            raise RuntimeError("no range was chosen")
        chosen = qparams(*self.span, low_code=self.quant_min, high_code=self.quant_max)
        # of a tensor that is zero everywhere; with less, kernels divide by a value that they take for zero
        scale = max(chosen.scale, torch.finfo(torch.float32).eps)
        return torch.tensor([scale], dtype=torch.float32), torch.tensor([chosen.zero_point], dtype=torch.int64)
