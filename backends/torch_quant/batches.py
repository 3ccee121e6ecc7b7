"""How many calibration samples an observed graph is given at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx

from edgec.backends.torch_quant.observed import Observed
from edgec.dataset.spool import Spool
from edgec.model.outputs import tensors_of
from edgec.model.samples import close

MOST = 8
"""Samples at once: of a small net, calls of ops take longer than what is computed in them."""
ELEMENTS = 2**16
"""Elements that the largest observed tensor may have in a batch; beyond the cache, batches are slower than samples."""
_WORTH = 4 * MOST
"""With fewer samples the trial costs as much as it may gain."""

Arguments = Callable[[Sequence[int]], list[torch.Tensor]]


def batch_size(observed: Observed, samples: Spool, arguments: Arguments) -> int:
    """`MOST` at most, and 1 where it does not pay, or where several samples do not give what each gives alone.

    The last is tried on two samples. Of each tensor that an observer sees, and of each output, the first axis has to
    be that of the samples; and each sample's part of them has to be the same as alone, of observed tensors by their
    extremes. (Many graphs have their batch of 1 built in; tensors may lie sequence-first, or come from weights.)

    Args:
        observed: its observers must have seen one sample.
        samples: two of them are run; statistics are left as they are.
        arguments: the graph's arguments for samples of these indices, joined along the first axis.
    """
    collecting = [observer.statistics for observer, _ in observed.sources]
    seen = [item for item in collecting if item is not None and item.samples]
    largest = max((item.elements // item.samples for item in seen), default=ELEMENTS)
    size = min(MOST, ELEMENTS // max(largest, 1))
    pair = [0, len(samples) // 2]
    if size < 2 or len(samples) < _WORTH or any(item.dim() == 0 or len(item) != 1 for item in arguments(pair[:1])):
        return 1
    if all(torch.equal(*both) for both in zip(*(arguments([index]) for index in pair), strict=True)):
        return 1  # equal samples cannot show whether a batch mixes them
    for observer, _ in observed.sources:
        observer.statistics = None
    try:
        return size if _takes_two(observed, pair, arguments) else 1
    finally:
        for (observer, _), statistics in zip(observed.sources, collecting, strict=True):
            observer.statistics = statistics


def _takes_two(observed: Observed, pair: Sequence[int], arguments: Arguments) -> bool:
    alone = []
    for index in pair:
        with _looking(observed) as ends:
            outputs = tensors_of(observed.graph(*arguments([index])))
        alone.append([*outputs, *ends])
    try:
        with _looking(observed) as ends:  # not the graph itself, which prints where it fails
            outputs = tensors_of(fx.Interpreter(observed.graph).run(*arguments(pair)))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        return False
    if any(item.dim() == 0 or len(item) != 1 for row in alone for item in row) or len(alone[0]) != len(alone[1]):
        return False
    if any(one.shape != other.shape for one, other in zip(*alone, strict=True)):
        return False
    return close([*outputs, *ends], [torch.cat(both) for both in zip(*alone, strict=True)])


@contextlib.contextmanager
def _looking(observed: Observed) -> Iterator[list[torch.Tensor]]:
    """What passes the observers while it lasts, two tensors each: [first axis, 2], the extremes at each index of the
    first axis, and [first axis, other axes], the lengths of those. One tensor without axes for what is empty or scalar.
    """
    observed_extremes: list[torch.Tensor] = []

    def look(_: torch.nn.Module, arguments: Any, __: Any) -> None:
        value = arguments[0]
        if value.dim() == 0 or value.numel() == 0:
            observed_extremes.append(value.new_zeros(()))
            return
        rows = value.detach().reshape(len(value), -1)
        observed_extremes.append(torch.stack([*torch.aminmax(rows, dim=1)], dim=1))
        lengths = torch.tensor([value.shape[1:]], dtype=torch.int64)
        observed_extremes.append(lengths.expand(len(value), -1))

    handles = [observer.register_forward_hook(look) for observer, _ in observed.sources]
    try:
        yield observed_extremes
    finally:
        for handle in handles:
            handle.remove()
