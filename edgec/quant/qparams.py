"""Scale S and zero-point Z of a range, for q = clamp(round(x / S) + Z) and x = S (q - Z)."""

from __future__ import annotations

import numpy as np

from edgec.frozen import Frozen

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Smallest normal float32, about 1.2e-38: a scale of 0 or a subnormal one would make x / S infinite or inexact."""


class QParams(Frozen):
    """How one tensor is quantized."""

    scale: float
    """S: positive, a float32."""
    zero_point: int
    """Z: the code of 0, among the codes."""


def qparams(low: float, high: float, *, low_code: int, high_code: int) -> QParams:
    """Affine quantization of the range from `low` to `high`, widened to hold 0.

    S = (high - low) / (high_code - low_code), Z = low_code - round(low / S), halves to even, clamped to the codes.

    Args:
        low: finite.
        high: finite.
        low_code: least code, such as -128.
        high_code: greatest code, such as 127.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = float(np.float32(max((high - low) / (high_code - low_code), SMALLEST_SCALE)))
    zero_point = round(low_code - low / scale)
    return QParams(scale=scale, zero_point=min(max(zero_point, low_code), high_code))
