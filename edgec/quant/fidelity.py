"""SQNR of values against the float model's, over any number of pairs."""

from __future__ import annotations

import math

import numpy as np

from edgec.quant.histogram import Array


class SqnrMeter:
    """Streaming signal to quantization noise ratio; the same definition as `edgec.verify.fidelity.compare`."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0

    def add(self, reference: Array, value: Array) -> None:
        """Take in one pair.

        Args:
            reference: of the float model.
            value: of the quantized one, same shape.

        Raises:
            ValueError: the shapes differ.
        """
        if reference.shape != value.shape:
            raise ValueError(f"a value has shape {list(value.shape)}, its reference {list(reference.shape)}")
        wanted, got = np.asarray(reference, np.float64), np.asarray(value, np.float64)
        difference = np.zeros_like(wanted)
        np.subtract(wanted, got, out=difference, where=wanted != got)  # equal infinities differ by 0
        if not np.isfinite(difference).all():
            self._noise = math.inf
            return
        self._signal += float(np.square(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).sum())
        self._noise += float(np.square(difference).sum())

    @property
    def sqnr_db(self) -> float:
        """10 log10(sum of squares of reference / sum of squares of difference), in dB.

        Infinite when all were equal (or there were none), -infinite where a difference was not finite.
        """
        if self._noise == 0.0:
            return math.inf
        if self._signal == 0.0 or math.isinf(self._noise):
            return -math.inf
        return 10 * (math.log10(self._signal) - math.log10(self._noise))
