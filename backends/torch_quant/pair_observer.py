"""The widest weights that cannot overflow int16."""

from __future__ import annotations

import torch
from torch.ao.quantization import PerChannelMinMaxObserver

LARGEST_PAIR = 128
"""255 x 128 fits 16 bits: the largest sum of two weights of one sign."""


class PairObserver(PerChannelMinMaxObserver):
    """Per-channel symmetric scales at which no two weights of a channel add up to more than `LARGEST_PAIR`.

    Halving the range (7 bits) is what that takes when a channel's two largest weights are equal; most channels need
    less. Whichever weights the kernel pairs, none overflow.
    """

    pair: torch.Tensor | None = None

    def forward(self, x_orig: torch.Tensor) -> torch.Tensor:
        """Note the weights' ranges and their largest pairs."""
        super().forward(x_orig)  # type: ignore[no-untyped-call]
        rows = x_orig.detach().float().movedim(self.ch_axis, 0).flatten(1)
        count = min(2, rows.shape[1])
        largest = [(sign * rows).clamp_min(0).topk(count, dim=1).values.sum(1) for sign in (1, -1)]
        self.pair = torch.maximum(*largest)
        return x_orig

    def calculate_qparams(self) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """Scales and zero-points (0), one a channel."""
        if self.pair is None:
            raise RuntimeError("no weights were observed")
        # rounding adds at most half a step to each of the two
        scale = (self.pair / (LARGEST_PAIR - 1)).clamp_min(float(self.eps))
        return scale, torch.zeros(len(scale), dtype=torch.int64)
