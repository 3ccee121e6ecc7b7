"""What a float model costs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(graph: nn.Module, example: Sequence[torch.Tensor]) -> int:
    """Multiply-accumulates of all matrix products and convolutions of one inference, recurrent layers' included."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # oneDNN's recurrent kernels are one op, whose products are not counted
        with torch.backends.mkldnn.flags(enabled=False), counter:
            graph(*[item.clone() for item in example])
    return int(counter.get_total_flops()) // 2


def count_parameters(graph: nn.Module) -> int:
    """Elements of all parameters, shared ones once."""
    return sum(value.numel() for value in graph.parameters())
