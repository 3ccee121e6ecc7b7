"""Statistics of one tensor over any number of calibration samples: extremes, moving averages, histograms."""

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
_ENOUGH = 2**20
"""Elements of all samples that are enough for the shape of a distribution, see `elements_of_each`."""
_LEAST_ELEMENTS = 4096
_HELD_ELEMENTS = 65536
"""Elements of small tensors that wait to be counted together: one call of NumPy costs what a thousand of them do."""
_HELD_SAMPLES = 32


class TensorStatistics:
    """Streaming statistics of one tensor (or of each of its channels) in memory that does not grow with samples.

    Extremes and histograms do not depend on the order of samples; moving averages do, by their nature.
    The extremes are exact. The histogram counts an even subset of at most `most` elements a sample,
    in the order in which they lie in memory, with a stride that shares no factor with the tensor's size:
    so no axis is sampled at the same few places only, and all channels are met.

    Small samples are copied and taken in together, at the latest when something is read; the results are the same.

    Args:
        histogram: also count values; needed by the range methods percentile, entropy and mse.
        channel_axis: keep the statistics of each index of this axis; of the whole tensor if None.
        most: elements of one sample (of one channel) that the histogram counts at most.
    """

    def __init__(self, histogram: bool, channel_axis: int | None = None, most: int = MAX_ELEMENTS) -> None:
        self.channel_axis = channel_axis
        self.samples = 0
        """Samples seen, without empty tensors."""
        self.elements = 0
        """Elements of all samples seen."""
        self._ends: Array = np.array([[math.inf], [-math.inf]])
        self._averages: Array = self._ends
        self._histograms: Histograms | None = None
        self._histogram = histogram
        self._most = most
        self._held: Array = np.empty((0, 1, 0), np.float32)
        self._waiting = 0

    @property
    def lows(self) -> Array:
        """[channels], or [1]: the least value of each; NaN if one was NaN; infinity before the first sample."""
        result: Array = self._settled()._ends[0]
        return result

    @property
    def highs(self) -> Array:
        """[channels], or [1]: the greatest value of each; NaN if one was NaN; -infinity before the first sample."""
        result: Array = self._settled()._ends[1]
        return result

    @property
    def average_lows(self) -> Array:
        """[channels], or [1]: exponential moving average of the least values of the samples, if `finite`."""
        result: Array = self._settled()._averages[0]
        return result

    @property
    def average_highs(self) -> Array:
        """[channels], or [1]: exponential moving average of the greatest values of the samples, if `finite`."""
        result: Array = self._settled()._averages[1]
        return result

    @property
    def histograms(self) -> Histograms | None:
        """One for each channel, or one; None if not asked for or before the first finite sample."""
        return self._settled()._histograms

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

    def channel(self, index: int) -> TensorStatistics:
        """The extremes and averages of one channel, as if it were a tensor of its own."""
        self._settled()
        one = TensorStatistics(False)
        one.samples, one.elements = self.samples, self.elements // self._ends.shape[1]
        one._ends, one._averages = self._ends[:, [index]], self._averages[:, [index]]
        return one

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
        self._add(rows[None])

    def observe_batch(self, array: Array) -> None:
        """Take in the samples along the first axis, as `observe` takes in each ``array[i : i + 1]`` in turn."""
        array = np.asarray(array, np.float32)
        if array.size == 0:
            return
        if self.channel_axis is not None:
            axis = self.channel_axis % array.ndim
            if axis == 0:
                for at in range(len(array)):
                    self.observe(array[at : at + 1])
                return
            self._add(np.moveaxis(array, axis, 1).reshape(len(array), array.shape[axis], -1))
            return
        outwards = sorted(range(1, array.ndim), key=lambda axis: -array.strides[axis])
        laid_out = array.transpose(0, *outwards)
        if laid_out.flags.c_contiguous:
            self._add(laid_out.reshape(len(array), 1, -1))
        else:
            self._add(np.stack([row.ravel(order="K")[None] for row in array]))

    def _add(self, rows: Array) -> None:
        """Take in samples, [samples, channels, elements], now or later."""
        count, channels = rows.shape[:2]
        if self.samples == 0:
            self._ends = np.repeat(self._ends, channels, axis=1)
        elif channels != self._ends.shape[1]:
            raise UnsupportedError(
                f"axis {self.channel_axis} has length {channels} in one sample and {self._ends.shape[1]} in another",
                hint="quantize this tensor per tensor, or give all samples one shape",
            )
        self.samples += count
        self.elements += rows.size
        if 2 * rows.size > _HELD_ELEMENTS or count > _HELD_SAMPLES:
            self._settled()._take(rows)
            return
        fits = rows.shape[1:] == self._held.shape[1:] and count <= len(self._held)
        if not fits or self._waiting + count > len(self._held):
            self._settled()
        if not fits:
            most = min(_HELD_SAMPLES, _HELD_ELEMENTS // rows[0].size)
            self._held = np.empty((most, *rows.shape[1:]), np.float32)
        self._held[self._waiting : self._waiting + count] = rows
        self._waiting += count

    def _settled(self) -> TensorStatistics:
        """Itself, once what waits is taken in."""
        if self._waiting:
            waiting, self._waiting = self._held[: self._waiting], 0
            self._take(waiting)
        return self

    def _take(self, rows: Array) -> None:
        """Take in samples, [samples, channels, elements], in their order."""
        ends = np.stack([rows.min(axis=2), rows.max(axis=2)], axis=1).astype(np.float64)
        lows, highs = ends.min(axis=0)[0], ends.max(axis=0)[1]
        self._ends = np.stack([np.minimum(self._ends[0], lows), np.maximum(self._ends[1], highs)])
        finite = np.isfinite(ends).all(axis=1)
        whole = finite.all(axis=1)
        self._average(ends, finite)
        if not whole.all():  # from now on `finite` is false
            rows, ends = rows[whole], ends[whole]
        if self._histogram and len(rows):
            self._count(rows, np.maximum(-ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)))

    def _average(self, ends: Array, finite: Array) -> None:
        """Move the averages by `ends`, [samples, 2, channels]; by those that are `finite`, [samples, channels]."""
        averages = self._averages
        if averages.shape != ends.shape[1:]:
            averages = np.repeat(averages, ends.shape[2], axis=1)
        smooth = bool(finite.all())
        if smooth and np.isposinf(averages[0]).all():
            averages = ends[0]
        if smooth and np.isfinite(averages).all():
            if averages.shape[1] == 1:  # Python's floats are NumPy's float64, and ten times quicker one by one
                low, high = averages[:, 0].tolist()
                for lowest, highest in ends[:, :, 0].tolist():
                    low += AVERAGING_CONSTANT * (lowest - low)
                    high += AVERAGING_CONSTANT * (highest - high)
                self._averages = np.array([[low], [high]])
                return
            for sample in ends:
                averages = averages + AVERAGING_CONSTANT * (sample - averages)
            self._averages = averages
            return
        for sample, known in zip(ends, finite, strict=True):
            before = np.where(known & np.isinf(averages), sample, averages)
            with np.errstate(invalid="ignore"):
                averages = np.where(known, before + AVERAGING_CONSTANT * (sample - before), before)
        self._averages = averages

    def _count(self, rows: Array, largest: Array) -> None:
        if self._histograms is None:
            self._histograms = Histograms(rows.shape[1], BINS if self.channel_axis is None else CHANNEL_BINS)
        values = rows[:, :, :: _stride(rows.shape[2], self._most)]
        values = values[0] if len(values) == 1 else values.transpose(1, 0, 2).reshape(rows.shape[1], -1)
        self._histograms.add(values, largest)


def elements_of_each(samples: int) -> int:
    """How many elements of each of so many samples a histogram should count at most: about `_ENOUGH` of all.

    With more samples each adds fewer, so that calibration takes a small multiple of the time of inference.
    """
    return max(_LEAST_ELEMENTS, min(MAX_ELEMENTS, _ENOUGH // max(samples, 1)))


def _stride(length: int, most: int) -> int:
    """The smallest stride that leaves at most `most` of `length` elements and shares no factor with it."""
    stride = -(-length // most)
    while math.gcd(stride, length) > 1:
        stride += 1
    return stride
