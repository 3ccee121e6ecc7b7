"""Scale S and zero-point Z of a range, and arrays to codes and back: q = clamp(round(x / S) + Z), x = S (q - Z)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.frozen import Frozen
from edgec.quant.histogram import Array

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Smallest normal float32, about 1.2e-38: a scale of 0 or a subnormal one would make x / S infinite or inexact."""


class QParams(Frozen):
    """How one tensor is quantized."""

    scale: float
    """S: positive, a float32."""
    zero_point: int
    """Z: the code of 0, among the codes."""
    low_code: int
    high_code: int


@dataclass(frozen=True, eq=False)
class ChannelQParams:
    """How each channel of a tensor is quantized."""

    scales: Array
    """[channels] float32, positive."""
    zero_points: Array
    """[channels] int64."""
    low_code: int
    high_code: int
    axis: int
    """Axis of the channels."""


def qparams(low: float, high: float, *, low_code: int, high_code: int, symmetric: bool) -> QParams:
    """Quantization of the range from `low` to `high`, widened to hold 0.

    Affine: S = (high - low) / (high_code - low_code), Z = low_code - round(low / S), halves to even, clamped to
    the codes. Symmetric: Z is the middle code, rounded up (0 for -128 to 127 and -127 to 127, 128 for 0 to 255),
    and S = max(|low|, |high|) / (high_code - Z).

    Args:
        low: finite.
        high: finite.
        low_code: least code, such as -128.
        high_code: greatest code, such as 127.
        symmetric: whether Z is fixed.
    """
    scales, zero_points = _solve(np.array([low]), np.array([high]), low_code, high_code, symmetric)
    return QParams(scale=float(scales[0]), zero_point=int(zero_points[0]), low_code=low_code, high_code=high_code)


def channel_qparams(
    lows: Array, highs: Array, *, low_code: int, high_code: int, symmetric: bool, axis: int
) -> ChannelQParams:
    """`qparams` of each channel: `lows` and `highs` are [channels].

    Args:
        lows: [channels].
        highs: [channels].
        low_code: least code.
        high_code: greatest code.
        symmetric: whether Z is fixed.
        axis: of the channels.
    """
    scales, zero_points = _solve(lows, highs, low_code, high_code, symmetric)
    return ChannelQParams(scales=scales, zero_points=zero_points, low_code=low_code, high_code=high_code, axis=axis)


def _solve(lows: Array, highs: Array, low_code: int, high_code: int, symmetric: bool) -> tuple[Array, Array]:
    lows = np.minimum(np.asarray(lows, np.float64), 0.0)
    highs = np.maximum(np.asarray(highs, np.float64), 0.0)
    if symmetric:
        middle = (low_code + high_code + 1) // 2
        scales = _as_scales(np.maximum(-lows, highs) / (high_code - middle))
        return scales, np.full(scales.shape, middle, np.int64)
    scales = _as_scales((highs - lows) / (high_code - low_code))
    zero_points = np.rint(low_code - lows / scales.astype(np.float64))
    return scales, np.clip(zero_points, low_code, high_code).astype(np.int64)


def _as_scales(scales: Array) -> Array:
    return np.maximum(scales, SMALLEST_SCALE).astype(np.float32)


def quantize(array: Array, params: QParams | ChannelQParams) -> Array:
    """Codes of `array`, int32: x / S in float32, halves to even, as kernels compute it. NaN has no code."""
    scale, zero_point = _broadcast(params, array.ndim)
    with np.errstate(over="ignore"):
        codes = np.rint(np.asarray(array, np.float32) / scale)
    # Clamped before the zero-point is added: float32 holds no large sums, nor int32 a huge quotient.
    codes = np.clip(codes, params.low_code - zero_point, params.high_code - zero_point)
    result: Array = codes.astype(np.int32) + zero_point.astype(np.int32)
    return result


def dequantize(codes: Array, params: QParams | ChannelQParams) -> Array:
    """The real values of codes, float32."""
    scale, zero_point = _broadcast(params, codes.ndim)
    result: Array = (codes.astype(np.int64) - zero_point).astype(np.float32) * scale
    return result


def fake_quantize(array: Array, params: QParams | ChannelQParams) -> Array:
    """`array` as its codes stand for it, float32: what quantization leaves of it."""
    return dequantize(quantize(array, params), params)


def _broadcast(params: QParams | ChannelQParams, dimensions: int) -> tuple[Array, Array]:
    """Scale and zero-point in a shape that fits an array."""
    if isinstance(params, QParams):
        return np.asarray(params.scale, np.float32), np.asarray(params.zero_point, np.int64)
    shape = [1] * dimensions
    shape[params.axis] = -1
    return params.scales.reshape(shape), params.zero_points.reshape(shape)
