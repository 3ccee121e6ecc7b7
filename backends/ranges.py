"""How a tensor's values lie in its calibrated range: one definition for all formats."""

from __future__ import annotations

import numpy as np

from edgec.model.spec import Array

Use = tuple[float, float]
"""The share of values that a range does not hold, and their level: their mean as a place in it, from 0 to 1."""


def range_of(scale: float, zero_point: int, dtype: str) -> tuple[float, float]:
    """The smallest and largest value that integer codes stand for: ``scale (code - zero_point)``.

    Args:
        scale: of the tensor.
        zero_point: of the tensor.
        dtype: of the codes: ``int8``, ``uint8``, ``int16``.
    """
    limits = np.iinfo(dtype)
    return (scale * (limits.min - zero_point), scale * (limits.max - zero_point))


def use_by_values(values: Array, low: float, high: float, step: float = 0.0) -> Use:
    """Of float values; outside is what lies farther off than rounding takes it, half a `step`.

    The level of values outside may be below 0 or above 1; of a range without width it is counted in its own units.

    Args:
        values: of a tensor.
        low: end of its range.
        high: the other end.
        step: quantization step of the range.
    """
    if not values.size:
        return 0.0, 0.0
    outside = np.count_nonzero(values < low - step / 2) + np.count_nonzero(values > high + step / 2)
    level = (float(np.mean(values, dtype=np.float64)) - low) / ((high - low) or 1.0)
    return float(outside) / values.size, level


def use_by_codes(codes: Array, zero_point: int) -> Use:
    """Of integer codes; outside is what stands at an end of the range, where a kernel has clamped what lay beyond.

    A range that begins or ends at 0 is that of a tensor which has no values beyond (after a ReLU): its code of 0 does
    not count.
    """
    if not codes.size:
        return 0.0, 0.0
    limits = np.iinfo(codes.dtype)
    ends = [end for end in (limits.min, limits.max) if end != zero_point]
    outside = sum(float(np.count_nonzero(codes == end)) for end in ends) / codes.size
    level = (float(np.mean(codes, dtype=np.float64)) - limits.min) / (limits.max - limits.min)
    return outside, level
