"""What calibration remembers of one tensor, however many samples it sees: extremes, moving averages, histograms."""

from __future__ import annotations

import math

import numpy as np

from edgec.errors import UnsupportedError
from edgec.quant.histogram import Array, Histograms

MAX_ELEMENTS = 65536
"""Elements of one sample (of one channel, if there are channels) that a histogram counts at most."""
BINS = 2048
"""Bins of a tensor's histogram on each side of zero; at least half of them are used on the wider side."""
CHANNEL_BINS = 512
"""The same for the histogram of one channel, of which there may be thousands."""
AVERAGING_CONSTANT = 0.01
"""Weight of a new sample in the moving averages, as in torch's MovingAverageMinMaxObserver and TensorFlow."""


class TensorStatistics:
    """Streaming statistics of one tensor (or of each of its channels) in memory that does not grow with samples.

    Extremes and histograms do not depend on the order of samples; moving averages do, by their nature.
    The extremes are exact. The histogram counts an even subset of at most `MAX_ELEMENTS` elements a sample,
    in the order in which they lie in memory, with a stride that shares no factor with the tensor's size:
    so no axis is sampled at the same few places only, and all channels are met.

    Args:
        histogram: also count values; needed by the range methods percentile, entropy and mse.
        channel_axis: keep the statistics of each index of this axis; of the whole tensor if None.
    """

    def __init__(self, histogram: bool, channel_axis: int | None = None) -> None:
        self.channel_axis = channel_axis
        self.samples = 0
        """Samples seen, without empty tensors."""
        self.elements = 0
        """Elements of all samples seen."""
        self.lows: Array = np.full(1, math.inf, np.float64)
        """[channels], or [1]: the least value of each; NaN if one was NaN; infinity before the first sample."""
        self.highs: Array = np.full(1, -math.inf, np.float64)
        """[channels], or [1]: the greatest value of each; NaN if one was NaN; -infinity before the first sample."""
        self.average_lows: Array = self.lows
        """[channels], or [1]: exponential moving average of the least values of the samples, if `finite`."""
        self.average_highs: Array = self.highs
        """[channels], or [1]: exponential moving average of the greatest values of the samples, if `finite`."""
        self.histograms: Histograms | None = None
        """One for each channel, or one; None if not asked for or before the first finite sample."""
        self._histogram = histogram

    @property
    def low(self) -> float:
        """The least value of all; NaN if one was NaN."""
        return float(self.lows.min())

    @property
    def high(self) -> float:
        """The greatest value of all; NaN if one was NaN."""
        return float(self.highs.max())

    @property
    def finite(self) -> bool:
        """Whether there were samples, and no NaN or infinity in them."""
        return self.samples > 0 and bool(np.isfinite(self.lows).all() and np.isfinite(self.highs).all())

    def observe(self, array: Array) -> None:
        """Take in one sample's tensor; it is read as float32. An empty one says nothing and is not counted.

        Raises:
            UnsupportedError: the channel axis is not as long as in the samples before.
        """
        array = np.asarray(array, np.float32)
        if array.size == 0:
            return
        if self.channel_axis is None:
            rows = array.ravel(order="K")[None]  # "K": no copy of torch's channels_last tensors
        else:
            rows = np.moveaxis(array, self.channel_axis, 0).reshape(array.shape[self.channel_axis], -1)
        lows, highs = rows.min(axis=1).astype(np.float64), rows.max(axis=1).astype(np.float64)
        if self.samples == 0:
            self.lows, self.highs = np.full_like(lows, math.inf), np.full_like(highs, -math.inf)
            self.average_lows, self.average_highs = lows, highs
        elif len(lows) != len(self.lows):
            raise UnsupportedError(
                f"axis {self.channel_axis} has length {len(lows)} in one sample and {len(self.lows)} in another",
                hint="quantize this tensor per tensor, or give all samples one shape",
            )
        self.samples += 1
        self.elements += array.size
        self.lows, self.highs = np.minimum(self.lows, lows), np.maximum(self.highs, highs)
        largest = np.maximum(-lows, highs)
        if not (largest < math.inf).all():  # nor is it with NaN; from now on `finite` is false
            return
        self.average_lows = self.average_lows + AVERAGING_CONSTANT * (lows - self.average_lows)
        self.average_highs = self.average_highs + AVERAGING_CONSTANT * (highs - self.average_highs)
        if self._histogram:
            self._count(rows, largest)

    def _count(self, rows: Array, largest: Array) -> None:
        if self.histograms is None:
            self.histograms = Histograms(len(rows), BINS if self.channel_axis is None else CHANNEL_BINS)
        self.histograms.add(rows[:, :: _stride(rows.shape[1])], largest)


def _stride(length: int) -> int:
    """The smallest stride that leaves at most `MAX_ELEMENTS` of `length` elements and shares no factor with it."""
    stride = -(-length // MAX_ELEMENTS)
    while math.gcd(stride, length) > 1:
        stride += 1
    return stride
