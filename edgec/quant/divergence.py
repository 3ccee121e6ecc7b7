"""The range of least Kullback-Leibler divergence between a tensor's values and what quantization leaves of them."""

from __future__ import annotations

import numpy as np

from edgec.quant.distribution import CODES, Distribution
from edgec.quant.histogram import Array
from edgec.quant.search_range import window

_CANDIDATES = 512
_EMPTY = 0.1
"""Count used for an empty bin in a logarithm."""


def least_divergence(distribution: Distribution) -> tuple[float, float]:
    """The range, in bins, of least divergence (S. Migacz, "8-bit inference with TensorRT", GTC 2017).

    For each candidate range P are the counts inside, with all that is clipped added to its end bins; Q are the counts
    inside without these, averaged over the bins (of those that are not empty) that share one of `CODES` levels.
    Wide ranges lose by the averaging, narrow ones by what their end bins miss. Divergences of all candidates come from
    running sums over the bins of counts, their logarithms and bins in use, with no loop over candidates or bins.

    Here, unlike there, ranges of signed tensors have both ends (`window`); exact zeros do not count (`Distribution`);
    and the divergence that counting noise alone makes, half of one for each bin beyond the first in a level (the mean
    of the G statistic), is subtracted: without that few samples would draw the threshold to the narrowest range.
    """
    counts, size = distribution.counts, len(distribution.counts)
    first, total = distribution.first, distribution.total
    thresholds = _thresholds(first, size)
    lows = np.maximum(-thresholds - first, min(0, -first))
    highs = np.minimum(thresholds - first, max(size, -first))
    begin, end = np.clip(lows, 0, size), np.clip(highs, 0, size)

    running = [_running(values) for values in (counts, counts > 0, _log_weighted(counts))]
    borders = lows[:, None] + -(-np.arange(CODES + 1) * (highs - lows)[:, None] // CODES)  # ceiling
    borders = np.clip(borders, 0, size)
    mass, used = (np.diff(sums[borders], axis=1) for sums in running[:2])
    kept = running[0][end] - running[0][begin]
    below, above = running[0][begin], total - running[0][end]

    # sum of P log P, P log Q (up to normalization) over the bins of each candidate
    left, right = counts[np.minimum(begin, size - 1)], counts[np.maximum(end - 1, 0)]
    p_log_p = running[2][end] - running[2][begin]
    p_log_p += _log_weighted(left + below) - _log_weighted(left) + _log_weighted(right + above) - _log_weighted(right)
    average = np.where(used > 0, mass / np.maximum(used, 1), _EMPTY)
    p_log_q = (mass * np.log(np.maximum(average, _EMPTY))).sum(axis=1)
    p_log_q += below * np.log(np.where(left > 0, average[:, 0], _EMPTY))
    p_log_q += above * np.log(np.where(right > 0, average[:, -1], _EMPTY))
    noise = (used.sum(axis=1) - (used > 0).sum(axis=1)) / 2
    with np.errstate(divide="ignore"):
        divergence = p_log_p - p_log_q - noise + total * (np.log(kept) - np.log(total))
    divergence[kept == 0] = np.inf

    best = thresholds[[int(np.argmin(divergence))]].astype(np.float64)  # the widest of equals comes first
    best = np.minimum(best, max(-distribution.low, distribution.high))
    low, high = window(distribution, best)
    return float(low[0]), float(high[0])


def _thresholds(first: int, size: int) -> Array:
    """Whole numbers of bins, falling, from all that is used to where a level has one bin."""
    below, above = max(-first, 0), max(first + size, 0)
    widest, shorter = max(below, above), min(below, above)
    narrowest = CODES // 2 if shorter >= CODES // 2 else CODES - shorter
    steps = np.linspace(widest, min(narrowest, widest), _CANDIDATES)
    rising: Array = np.unique(np.rint(steps).astype(np.int64))
    return rising[::-1]


def _running(values: Array) -> Array:
    """[bins + 1]: sums of all values before each edge."""
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))


def _log_weighted(counts: Array) -> Array:
    """Counts times their logarithm; 0 for 0."""
    result: Array = counts * np.log(np.maximum(counts, 1.0))
    return result
