"""Groups of an output's channels whose values differ so much in size that one hides what the other loses.

A detector may give boxes in pixels beside scores of 0 to 1 in one tensor. The noise of the boxes is then as large as
the scores, and the SQNR of the whole says nothing about them: each group has an SQNR of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.model.spec import Array
from edgec.verify.outputs import chunks

APART = 30.0
"""How many times as large the smallest channel of one group is as the largest of the next.

In one int8 tensor with both, the smaller one has at most 8 codes.
"""
UNUSED = 1e-6
"""Part of the largest channel below which a channel is as good as zero."""
MOST_GROUPS = 4
"""More runs of large and small channels by turns are a feature map with channels that are hardly used."""
LEAST_PART = 1 / 8
"""Part of all channels that a group of smaller ones has, at least: fewer are channels that are hardly used."""
MOST_CHANNELS = 1024
"""Longer axes are positions, not channels."""


@dataclass(frozen=True)
class ChannelGroup:
    """Neighbouring channels along one axis."""

    axis: int
    """Of an output of one sample, batch axis included."""
    first: int
    end: int
    """One past the last."""

    @property
    def index(self) -> str:
        """As in ``y[:,0:4]``, with the batch axis left out."""
        return ":," * (self.axis - 1) + f"{self.first}:{self.end}"

    def of(self, output: Array) -> Array:
        """The channels of an output of all samples, shape (samples, batch, ...)."""
        return output[(slice(None),) * (self.axis + 1) + (slice(self.first, self.end),)]


def channel_groups(reference: Array) -> tuple[ChannelGroup, ...]:
    """The groups of an output, in order; empty when all channels belong together.

    Channels belong together when their largest absolute values over all samples have no gap of `APART` between them.
    Those that stay within 0 and 1 count as reaching 1: they are shares, of which some are rare. Those that are as good
    as zero belong to the ones before them. Channels are looked for along each axis behind the batch axis; where
    several can be grouped, the widest gap counts.

    Args:
        reference: of the float model, floating point, shape (samples, batch, ...).
    """
    first = 1 if reference.ndim > 2 else 0  # an output may have no batch axis
    axes = [axis for axis in range(first, reference.ndim - 1) if 2 <= reference.shape[axis + 1] <= MOST_CHANNELS]
    if not axes or not len(reference):
        return ()
    low, high = _extremes(reference)
    widest = APART
    groups: tuple[ChannelGroup, ...] = ()
    for axis in axes:
        others = tuple(k for k in range(low.ndim) if k != axis)
        gap, ends = _split(_sizes(low.min(axis=others), high.max(axis=others)))
        if gap > widest:
            firsts = (0, *ends[:-1])
            widest, groups = gap, tuple(ChannelGroup(axis, *ends) for ends in zip(firsts, ends, strict=True))
    return groups


def _extremes(reference: Array) -> tuple[Array, Array]:
    """Smallest and largest finite value of each element over all samples."""
    low, high = np.full(reference.shape[1:], np.inf), np.full(reference.shape[1:], -np.inf)
    for part in chunks(reference):
        values = np.asarray(reference[part])
        values = np.where(np.isfinite(values), values, 0)
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    return low, high


def _sizes(low: Array, high: Array) -> Array:
    """Size of each channel, from its extremes."""
    sizes = np.maximum(np.abs(low), np.abs(high))
    sizes = np.where((low >= 0) & (high > 0) & (high <= 1), 1.0, sizes)
    used = np.flatnonzero(sizes > UNUSED * sizes.max())
    if not len(used):
        return np.ones_like(sizes)
    before = np.searchsorted(used, np.arange(len(sizes)), side="right") - 1
    return np.asarray(sizes[used[np.maximum(before, 0)]])


def _split(sizes: Array) -> tuple[float, tuple[int, ...]]:
    """The widest gap between sizes, and where the groups end; (0, ()) when there is one group only.

    Of the gaps that are wide enough, as many of the widest are used as give groups that are not due to chance.
    """
    ordered = np.unique(sizes)
    gaps = ordered[1:] / ordered[:-1]
    wide = sorted(np.flatnonzero(gaps > APART), key=lambda index: (-gaps[index], index))
    for count in range(len(wide), 0, -1):
        limits = np.sort(ordered[1:][wide[:count]])
        level = np.searchsorted(limits, sizes, side="right")
        ends = (*(np.flatnonzero(np.diff(level)) + 1).tolist(), len(level))
        lengths = np.diff((0, *ends))
        smaller = level[np.array(ends) - 1] < count
        if len(ends) <= MOST_GROUPS and (lengths[smaller] >= LEAST_PART * len(level)).all():
            return float(gaps.max()), ends
    return 0.0, ()
