"""From the statistics of a tensor to the range that its codes span."""

from __future__ import annotations

import numpy as np

from edgec.errors import DatasetError, InternalError
from edgec.quant.distribution import Distribution
from edgec.quant.divergence import least_divergence
from edgec.quant.recipe import RangeMethod
from edgec.quant.search_range import least_error
from edgec.quant.statistics import TensorStatistics

PERCENTILE = 99.99
"""Share of a tensor's values, in percent, that the percentile method keeps."""
FLOOR_DB = 20.0
"""Percentile and entropy may not clip a tensor to a signal to noise ratio below this that it has without clipping."""
_WIDENINGS = 64


def needs_histogram(method: RangeMethod) -> bool:
    """Whether a method reads a histogram, which `TensorStatistics` must then count."""
    return method in ("percentile", "entropy", "mse")


def choose_range(statistics: TensorStatistics, method: RangeMethod, *, name: str = "") -> tuple[float, float]:
    """The range of one tensor: finite, with 0 in it, and no wider than the values seen and 0.

    - minmax: all values seen.
    - moving-average: averages of each sample's extremes, see `TensorStatistics`.
    - percentile: `PERCENTILE` % of the values that are not zero, the rest cut in halves from both ends; the end
      at zero of a one-sided tensor stays.
    - entropy: `least_divergence`.
    - mse: `least_error`.

    Percentile and entropy do not look at how large an error clipping makes. On heavy tails, or on a channel of large
    values among many, they could cut what matters; so where they would bring a tensor below `FLOOR_DB` (or below what
    it has without clipping, if that is less), the range is widened until they do not.

    Args:
        statistics: of the whole tensor, with a histogram if the method `needs_histogram`.
        method: how to choose.
        name: of the tensor, for messages.

    Returns:
        Lowest and highest value.

    Raises:
        DatasetError: there were no samples, or values that are not finite.
        InternalError: the statistics are by channel, or the method needs a histogram and there is none.
    """
    if not statistics.finite:
        what = "calibration met NaN or infinity" if statistics.samples else "calibration never reached this tensor"
        hint = "check the calibration samples and their preprocessing, and that the float model's outputs are finite"
        raise DatasetError(what, where=name, hint=hint)
    if len(statistics.lows) != 1:
        raise InternalError(f"{len(statistics.lows)} channels have no one range", where=name)
    least, greatest = min(statistics.low, 0.0), max(statistics.high, 0.0)
    low, high = least, greatest
    if method == "moving-average":
        low, high = float(statistics.average_lows[0]), float(statistics.average_highs[0])
    elif needs_histogram(method):
        if statistics.histograms is None:
            raise InternalError(f"{method} needs a histogram", where=name)
        low, high = _from_histogram(Distribution.of(statistics), method)
    low, high = min(max(low, least), 0.0), min(max(high, 0.0), greatest)
    return low + 0.0, high + 0.0  # + 0.0: no negative zeros


def _from_histogram(distribution: Distribution, method: RangeMethod) -> tuple[float, float]:
    """The range in the tensor's own unit."""
    if distribution.total == 0:  # nothing but zeros among what was counted
        low, high = distribution.low, distribution.high
    elif method == "mse":
        low, high = least_error(distribution)
    elif method == "entropy":
        low, high = _widen(distribution, *least_divergence(distribution))
    else:
        low, high = _widen(distribution, *_central(distribution))
    return low * distribution.unit, high * distribution.unit


def _central(distribution: Distribution) -> tuple[float, float]:
    """The middle `PERCENTILE` % of the values, in bins: linear within a bin."""
    running = np.concatenate(([0.0], np.cumsum(distribution.counts)))
    tail = distribution.total * (1 - PERCENTILE / 100) / 2
    low, high = np.interp([tail, distribution.total - tail], running, distribution.edges)
    return min(float(low), 0.0), max(float(high), 0.0)


def _widen(distribution: Distribution, low: float, high: float) -> tuple[float, float]:
    """The least range between this and the whole one that does not fall below `FLOOR_DB`."""
    part = np.linspace(0.0, 1.0, _WIDENINGS + 1)
    lows, highs = low + (distribution.low - low) * part, high + (distribution.high - high) * part
    bound = distribution.power * 10 ** (-FLOOR_DB / 10)
    if distribution.errors(lows[:1], highs[:1])[0] <= bound:
        return low, high
    errors = distribution.errors(lows, highs)
    index = int(np.argmax(errors <= max(bound, errors[-1])))
    return float(lows[index]), float(highs[index])
