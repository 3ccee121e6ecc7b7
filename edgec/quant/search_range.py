"""The range of least expected squared error."""

from __future__ import annotations

import numpy as np

from edgec.quant.distribution import Distribution
from edgec.quant.histogram import Array

_NARROWEST = 10
"""The search begins at thresholds from 1 down to 2^-10 of the largest value."""
_PER_OCTAVE = 6


def window(distribution: Distribution, thresholds: Array) -> tuple[Array, Array]:
    """The ranges [-T, T], cut at the extreme values: these lose nothing on the short side of zero.

    Shrinking both ends by one factor instead would cut into the bulk of a skewed tensor, such as SiLU's or GELU's
    outputs, whose negative values are few tenths while the positive ones reach tens.

    Args:
        distribution: values of a tensor.
        thresholds: [candidates], T in bins.
    """
    return np.maximum(-thresholds, distribution.low), np.minimum(thresholds, distribution.high)


def least_error(distribution: Distribution) -> tuple[float, float]:
    """The range, in bins, of least `Distribution.errors`: never worse than the whole range.

    Thresholds in geometric steps, finer ones about the best, then each end by itself, twice.
    """
    largest = max(-distribution.low, distribution.high)
    thresholds = largest * 2.0 ** -(np.arange(_NARROWEST * _PER_OCTAVE + 1) / _PER_OCTAVE)
    best = _best(distribution, *window(distribution, thresholds))
    near = np.minimum(max(-best[0], best[1]) * np.linspace(1.15, 0.85, 31), largest)
    best = _best(distribution, *_with(best, *window(distribution, near)))
    for factors in (np.linspace(2.0, 0.4, 33), np.linspace(1.06, 0.94, 25)):
        highs = np.minimum(best[1] * factors, distribution.high)
        best = _best(distribution, *_with(best, np.full_like(highs, best[0]), highs))
        lows = np.maximum(best[0] * factors, distribution.low)
        best = _best(distribution, *_with(best, lows, np.full_like(lows, best[1])))
    return best


def _with(best: tuple[float, float], lows: Array, highs: Array) -> tuple[Array, Array]:
    return np.append(best[0], lows), np.append(best[1], highs)


def _best(distribution: Distribution, lows: Array, highs: Array) -> tuple[float, float]:
    """The first of the best ranges."""
    index = int(np.argmin(distribution.errors(lows, highs)))
    return float(lows[index]), float(highs[index])
