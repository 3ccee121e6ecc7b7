"""Scales, zero-points and codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quant.qparams import (
    SMALLEST_SCALE,
    ChannelQParams,
    channel_qparams,
    dequantize,
    fake_quantize,
    qparams,
    quantize,
)

CODES = st.sampled_from([(-128, 127), (0, 255), (-127, 127), (0, 127), (-8, 7), (-32768, 32767)])
ENDS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@given(ENDS, ENDS, CODES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_inside_the_range_the_error_is_half_a_step(one, other, codes, symmetric):
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    params = qparams(min(one, other), max(one, other), low_code=codes[0], high_code=codes[1], symmetric=symmetric)
    assert codes[0] <= params.zero_point <= codes[1]
    assert params.scale == np.float32(params.scale) >= SMALLEST_SCALE
    inside = np.linspace(low, high, 257).astype(np.float32)
    error = np.abs(fake_quantize(inside, params).astype(np.float64) - inside)
    # 2^-24 of the largest value: rounding of x / S and S (q - Z) to float32, a few ulp
    assert error.max() <= params.scale / 2 + 4 * 2.0**-24 * max(-low, high)
    assert fake_quantize(np.zeros(1, np.float32), params)[0] == 0.0


@given(ENDS, ENDS, CODES, st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_code_comes_back(one, other, codes, symmetric):
    params = qparams(min(one, other), max(one, other), low_code=codes[0], high_code=codes[1], symmetric=symmetric)
    all_codes = np.arange(codes[0], codes[1] + 1)
    assert np.array_equal(quantize(dequantize(all_codes, params), params), all_codes)


def test_known_ranges():
    affine = qparams(-1.0, 3.0, low_code=-128, high_code=127, symmetric=False)
    assert (affine.scale, affine.zero_point) == (float(np.float32(4 / 255)), -64)
    relu = qparams(0.5, 2.55, low_code=0, high_code=255, symmetric=False)  # widened to hold 0
    assert (relu.scale, relu.zero_point) == (pytest.approx(0.01, rel=1e-7), 0)
    negative = qparams(-2.55, -1.0, low_code=0, high_code=255, symmetric=False)
    assert negative.zero_point == 255
    symmetric = qparams(-1.0, 3.0, low_code=-128, high_code=127, symmetric=True)
    assert (symmetric.scale, symmetric.zero_point) == (float(np.float32(3 / 127)), 0)
    assert qparams(-1.0, 3.0, low_code=0, high_code=255, symmetric=True).zero_point == 128


def test_a_range_of_nothing_has_a_scale_that_divides():
    params = qparams(0.0, 0.0, low_code=-128, high_code=127, symmetric=False)
    assert params.scale == SMALLEST_SCALE
    assert np.array_equal(fake_quantize(np.array([0.0, 0.0]), params), [0.0, 0.0])
    assert np.array_equal(quantize(np.array([-3e38, 3e38]), params), [-128, 127])


def test_values_outside_the_range_are_clipped():
    params = qparams(-1.0, 1.0, low_code=-128, high_code=127, symmetric=False)
    assert np.array_equal(quantize(np.array([-np.inf, -3e38, 3e38, np.inf]), params), [-128, -128, 127, 127])


def test_codes_are_those_of_torch():
    import torch

    values = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32) * 2
    params = qparams(-2.0, 3.0, low_code=0, high_code=255, symmetric=False)
    theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(values), params.scale, params.zero_point, 0, 255)
    np.testing.assert_allclose(fake_quantize(values, params), theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_channels_are_quantized_as_alone(symmetric):
    lows, highs = np.array([-1.0, 0.0, -5.0]), np.array([2.0, 0.0, -1.0])
    values = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    params = channel_qparams(lows, highs, low_code=-128, high_code=127, symmetric=symmetric, axis=1)
    assert isinstance(params, ChannelQParams)
    for channel in range(3):
        alone = qparams(lows[channel], highs[channel], low_code=-128, high_code=127, symmetric=symmetric)
        assert (params.scales[channel], params.zero_points[channel]) == (alone.scale, alone.zero_point)
        assert np.array_equal(fake_quantize(values, params)[:, channel], fake_quantize(values[:, channel], alone))
