"""A histogram that grows without loss: bins are whole multiples of a power of two, so doubling them merges pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

_SMALLEST_EXPONENT = -120
"""Bins are not narrower than 2^-120, so that the reciprocal of their width is a float32."""


class Histograms:
    """Counts of the values of each channel of a tensor, in bins [i w, (i + 1) w), i = -side to side - 1.

    w is the smallest power of two for which all values fit (at least 2^-120); each channel has its own. As 0 is an
    edge of every width and floor(floor(x / w) / 2) = floor(x / 2w), the counts after any number of values are those
    that one would get from all values at once: they do not depend on the order of the values or on how they came.

    Args:
        channels: how many histograms.
        side: bins on each side of zero, a power of two.
    """

    def __init__(self, channels: int, side: int) -> None:
        self.side = side
        self.counts: Array = np.zeros((channels, 2 * side), np.int64)
        """[channels, 2 side]; column ``side`` is the bin that begins at zero."""
        self.zeros: Array = np.zeros(channels, np.int64)
        """[channels]: how many values were exactly zero; they are counted in column ``side`` too."""
        self.exponents: Array = np.full(channels, _SMALLEST_EXPONENT)
        """[channels]: log2 of the width."""
        self._reach: Array = np.ldexp(float(side), self.exponents)
        """[channels]: magnitudes below this have a bin."""
        self._offsets: Array = side + 2 * side * np.arange(channels)[:, None]

    def add(self, values: Array, largest: Array) -> None:
        """Count finite `values`.

        Args:
            values: float32 [channels, any].
            largest: [channels], not less than max |values|; the bins grow to hold it.
        """
        if (largest >= self._reach).any():
            self._grow(largest)
        # A float32 product with 2^k, k >= 0, is exact. With k < 0 a small negative value could vanish and so
        # change its bin, hence float64, whose exponents reach further than any float32 divided by any width.
        dtype = np.float32 if self.exponents.max() <= 0 else np.float64
        scaled = np.multiply(values, np.ldexp(dtype(1), -self.exponents)[:, None], dtype=dtype)
        np.floor(scaled, out=scaled)
        bins = scaled.astype(np.intp)
        bins += self._offsets
        self.counts += np.bincount(bins.reshape(-1), minlength=self.counts.size).reshape(self.counts.shape)
        zero = values == 0
        self.zeros += np.count_nonzero(zero, axis=1) if len(zero) > 1 else np.count_nonzero(zero)

    def _grow(self, largest: Array) -> None:
        """Double bins until `largest` lies in the last one."""
        # frexp: largest = m 2^e with 1/2 <= m < 1, hence largest < side * 2^(e - log2 side).
        needed = np.frexp(np.asarray(largest, np.float64))[1] - int(math.log2(self.side))
        needed = np.where(np.asarray(largest) > 0, np.maximum(needed, _SMALLEST_EXPONENT), _SMALLEST_EXPONENT)
        doublings = np.maximum(needed - self.exponents, 0)
        self.exponents = self.exponents + doublings
        self._reach = np.ldexp(float(self.side), self.exponents)
        # After log2(2 side) doublings all counts are in the two bins at zero, where further ones leave them.
        for done in range(min(int(doublings.max(initial=0)), int(math.log2(self.side)) + 1)):
            rows = doublings > done
            merged = self.counts[rows].reshape(-1, self.side, 2).sum(axis=2)
            self.counts[rows] = 0
            self.counts[rows, self.side // 2 : self.side // 2 + self.side] = merged
