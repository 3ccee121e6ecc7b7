"""From the statistics of a tensor to the range that its codes span."""

from __future__ import annotations

import numpy as np

from edgec.errors import DatasetError, InternalError
from edgec.quant.distribution import Distribution
from edgec.quant.divergence import least_divergence
from edgec.quant.histogram import Array
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


def choose_range(
    statistics: TensorStatistics,
    method: RangeMethod,
    *,
    codes: int = 256,
    symmetric: bool = False,
    percentile: float = PERCENTILE,
    name: str = "",
) -> tuple[float, float]:
    """The range of one tensor, statistics of which are per tensor. See `choose_ranges`.

    Args:
        statistics: per tensor.
        method: how to choose.
        codes: levels of the quantized tensor.
        symmetric: ranges [-T, T] instead.
        percentile: for the method of that name.
        name: of the tensor, for messages.
    """
    lows, highs = choose_ranges(statistics, method, codes=codes, symmetric=symmetric, percentile=percentile, name=name)
    if len(lows) != 1:
        raise InternalError(f"{len(lows)} channels have no one range", where=name)
    return float(lows[0]), float(highs[0])


def choose_ranges(
    statistics: TensorStatistics,
    method: RangeMethod,
    *,
    codes: int = 256,
    symmetric: bool = False,
    percentile: float = PERCENTILE,
    name: str = "",
) -> tuple[Array, Array]:
    """The range of each channel: finite, with 0 in it, and no wider than the values seen and 0.

    - minmax: all values seen.
    - moving-average: averages of each sample's extremes, see `TensorStatistics`.
    - percentile: `percentile` % of the values that are not zero, the rest cut in halves from both ends; the end
      at zero of a one-sided tensor stays.
    - entropy: `least_divergence`.
    - mse: `least_error`.

    Percentile and entropy do not look at how large an error clipping makes. On heavy tails, or on a channel of large
    values among many, they could cut what matters; so where they would bring a tensor below `FLOOR_DB` (or below what
    it has without clipping, if that is less), the range is widened until they do not.

    Args:
        statistics: of a tensor, with histograms if the method `needs_histogram`.
        method: how to choose.
        codes: levels of the quantized tensor: 256 for 8 bits.
        symmetric: ranges [-T, T] instead, T not above the largest absolute value.
        percentile: for the method of that name, above 50 and up to 100.
        name: of the tensor, for messages.

    Returns:
        Lowest and highest values, float64 [channels] ([1] for statistics per tensor).

    Raises:
        DatasetError: there were no samples, or values that are not finite.
        InternalError: the method needs histograms and there are none.
    """
    if not statistics.finite:
        what = "calibration met NaN or infinity" if statistics.samples else "calibration never reached this tensor"
        hint = "check the calibration samples and their preprocessing, and that the float model's outputs are finite"
        raise DatasetError(what, where=name, hint=hint)
    lows, highs = np.minimum(statistics.lows, 0.0), np.maximum(statistics.highs, 0.0)
    if method == "moving-average":
        lows = np.clip(statistics.average_lows, lows, 0.0)
        highs = np.clip(statistics.average_highs, 0.0, highs)
    elif needs_histogram(method):
        if statistics.histograms is None:
            raise InternalError(f"{method} needs a histogram", where=name)
        chosen = [
            _from_histogram(Distribution.of(statistics, channel), method, codes, symmetric, percentile)
            for channel in range(len(lows))
        ]
        lows = np.clip(np.array([low for low, _ in chosen]), lows, 0.0)
        highs = np.clip(np.array([high for _, high in chosen]), 0.0, highs)
    if symmetric:
        highs = np.maximum(-lows, highs)
        lows = -highs
    return lows + 0.0, highs + 0.0  # + 0.0: no negative zeros


def _from_histogram(
    distribution: Distribution, method: RangeMethod, codes: int, symmetric: bool, percentile: float
) -> tuple[float, float]:
    """The range of one channel, in the tensor's own unit."""
    if distribution.total == 0:  # nothing but zeros among what was counted
        low, high = distribution.low, distribution.high
    elif method == "mse":
        low, high = least_error(distribution, codes, symmetric)
    elif method == "entropy":
        low, high = _widen(distribution, *least_divergence(distribution, codes, symmetric), codes, symmetric)
    else:
        low, high = _widen(distribution, *_central(distribution, percentile), codes, symmetric)
    return low * distribution.unit, high * distribution.unit


def _central(distribution: Distribution, percentile: float) -> tuple[float, float]:
    """The middle `percentile` % of the values, in bins: linear within a bin."""
    running = np.concatenate(([0.0], np.cumsum(distribution.counts)))
    tail = distribution.total * (1 - percentile / 100) / 2
    low, high = np.interp([tail, distribution.total - tail], running, distribution.edges)
    return min(float(low), 0.0), max(float(high), 0.0)


def _widen(distribution: Distribution, low: float, high: float, codes: int, symmetric: bool) -> tuple[float, float]:
    """The least range between this and the whole one that does not fall below `FLOOR_DB`."""
    part = np.linspace(0.0, 1.0, _WIDENINGS + 1)
    lows, highs = low + (distribution.low - low) * part, high + (distribution.high - high) * part
    if symmetric:
        highs = np.maximum(-lows, highs)
        lows = -highs
    bound = distribution.power * 10 ** (-FLOOR_DB / 10)
    if distribution.errors(lows[:1], highs[:1], codes)[0] <= bound:
        return low, high
    errors = distribution.errors(lows, highs, codes)
    index = int(np.argmax(errors <= max(bound, errors[-1])))
    return float(lows[index]), float(highs[index])
