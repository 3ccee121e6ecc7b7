"""The histogram of a tensor as a density, and the expected error of quantizing what it describes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.quant.histogram import Array
from edgec.quant.statistics import TensorStatistics

CODES = 256
"""Levels of a quantized tensor."""
_BLOCK = 8
"""Ranges judged at a time: their arrays stay in the cache."""
_THINNEST = 2.0**-10
"""Least width of an outermost bin that is cut at an extreme value, in bins: a density needs a width."""


@dataclass(frozen=True, eq=False)
class Distribution:
    """The values of a tensor that are not exactly zero. Unit of length is the bin, so that nothing overflows.

    Exact zeros are left out because every range holds 0 and so represents them without error: after a ReLU they
    are often most of a tensor, and would drown what a range has to be chosen for.
    """

    first: int
    """Bin (counted from zero) of ``counts[0]``."""
    counts: Array
    """[bins]: values in each bin; the first and last bin are not empty, unless all are."""
    low: float
    """The least value or 0, whichever is less."""
    high: float
    """The greatest value or 0, whichever is greater."""
    unit: float
    """Width of a bin, in the tensor's own unit."""

    @classmethod
    def of(cls, statistics: TensorStatistics) -> Distribution:
        """The distribution in the histogram of a whole tensor, which `statistics` has."""
        histograms = statistics.histograms
        assert histograms is not None
        counts = histograms.counts[0].astype(np.float64)
        counts[histograms.side] -= histograms.zeros[0]
        unit = float(np.ldexp(1.0, histograms.exponents[0]))
        used = np.flatnonzero(counts)
        begin, end = (int(used[0]), int(used[-1]) + 1) if used.size else (histograms.side, histograms.side + 1)
        return cls(
            first=begin - histograms.side,
            counts=counts[begin:end],
            low=min(statistics.low, 0.0) / unit,
            high=max(statistics.high, 0.0) / unit,
            unit=unit,
        )

    @property
    def total(self) -> float:
        """Number of values."""
        return float(self.counts.sum())

    @property
    def edges(self) -> Array:
        """[bins + 1]: the edges of the bins, the outermost moved inwards to the extreme values."""
        edges = self.first + np.arange(len(self.counts) + 1, dtype=np.float64)
        edges[0] = min(max(edges[0], self.low), edges[1] - _THINNEST)
        edges[-1] = max(min(edges[-1], self.high), edges[-2] + _THINNEST)
        return edges

    @property
    def power(self) -> float:
        """Sum of the squares of all values, each uniform within its bin."""
        edges = self.edges
        return float(np.diff(_cubes(edges)) / 3 @ (self.counts / np.diff(edges)))

    def errors(self, lows: Array, highs: Array) -> Array:
        """Expected sum of squared errors when the values are clipped to ranges and rounded to the codes of each.

        A range of step S = (high - low) / (CODES - 1) becomes [l, h] = S [m, m + CODES - 1], m = round(low / S), when
        its zero-point is rounded. For values that are uniform within their bins the result is the exact integral of
        (x - S round(clip(x, l, h) / S))^2 over the density, for any ratio of bin to step: with c = clip(x, l, h),
        k = round(c / S) and r = c / S - k the antiderivative is S^3 (k / 12 + r^3 / 3) + (x - c)^3 / 3, the first
        term from rounding (1 / 12 for each whole step) and the second from clipping.

        Args:
            lows: [ranges], in bins.
            highs: [ranges], in bins.

        Returns:
            [ranges], in squares of a bin.
        """
        density = self.counts / np.diff(self.edges)
        blocks = range(0, len(lows), _BLOCK)
        return np.concatenate([self._errors(lows[at : at + _BLOCK], highs[at : at + _BLOCK], density) for at in blocks])

    def _errors(self, lows: Array, highs: Array, density: Array) -> Array:
        edges = self.edges
        steps = (np.maximum(highs - lows, np.finfo(np.float64).tiny) / (CODES - 1))[:, None]
        lowest = np.rint(lows[:, None] / steps)
        clipped = np.clip(edges, lowest * steps, (lowest + (CODES - 1)) * steps)
        scaled = clipped / steps
        integral = np.rint(scaled)
        scaled -= integral
        integral /= 4
        integral += _cubes(scaled)
        integral *= _cubes(steps)
        integral -= _cubes(clipped - edges)
        integral /= 3
        result: Array = np.diff(integral, axis=1) @ density
        return result


def _cubes(values: Array) -> Array:
    """Much faster than a power of floats."""
    cubes: Array = values * values
    cubes *= values
    return cubes
