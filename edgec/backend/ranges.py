"""How much of an activation a calibrated range does not hold: one definition for all formats."""

from __future__ import annotations

import numpy as np

from edgec.model.spec import Array


def range_of(scale: float, zero_point: int, dtype: str) -> tuple[float, float]:
    """The smallest and largest value that codes of an integer `dtype` stand for."""
    limits = np.iinfo(dtype)
    return (scale * (limits.min - zero_point), scale * (limits.max - zero_point))


def share_beyond(values: Array, low: float, high: float, step: float = 0.0) -> float:
    """Share of float values that lie farther outside the range than rounding takes them, half a `step`."""
    if not values.size:
        return 0.0
    outside = np.count_nonzero(values < low - step / 2) + np.count_nonzero(values > high + step / 2)
    return float(outside) / values.size


def share_at_ends(codes: Array, zero_point: int) -> float:
    """Share of codes that stand at an end of their range, where a kernel has clamped what lay beyond.

    A range that begins or ends at 0 is that of a tensor which has no values beyond (after a ReLU): its code of 0 does
    not count.
    """
    limits = np.iinfo(codes.dtype)
    ends = [end for end in (limits.min, limits.max) if end != zero_point]
    if not codes.size:
        return 0.0
    return sum(float(np.count_nonzero(codes == end)) for end in ends) / codes.size
