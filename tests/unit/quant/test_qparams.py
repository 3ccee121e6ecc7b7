"""Scales and zero-points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quant.qparams import SMALLEST_SCALE, QParams, qparams

CODES = st.sampled_from([(-128, 127), (0, 255), (-127, 127), (0, 127), (-8, 7), (-32768, 32767)])
ENDS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def fake_quantize(values: np.ndarray, params: QParams, low_code: int, high_code: int) -> np.ndarray:
    """What quantization leaves of `values`, float32."""
    scale = np.float32(params.scale)
    codes = np.clip(np.rint(np.float32(values) / scale), low_code - params.zero_point, high_code - params.zero_point)
    return codes * scale


@given(ENDS, ENDS, CODES)
@settings(max_examples=300, deadline=None)
def test_inside_the_range_the_error_is_half_a_step(one, other, codes):
    low, high = min(one, other, 0.0), max(one, other, 0.0)
    params = qparams(min(one, other), max(one, other), low_code=codes[0], high_code=codes[1])
    assert codes[0] <= params.zero_point <= codes[1]
    assert params.scale == np.float32(params.scale) >= SMALLEST_SCALE
    inside = np.linspace(low, high, 257).astype(np.float32)
    error = np.abs(fake_quantize(inside, params, *codes).astype(np.float64) - inside)
    # 2^-24 of the largest value: rounding of x / S and S (q - Z) to float32, a few ulp
    assert error.max() <= params.scale / 2 + 4 * 2.0**-24 * max(-low, high)
    assert fake_quantize(np.zeros(1), params, *codes)[0] == 0.0


def test_known_ranges():
    affine = qparams(-1.0, 3.0, low_code=-128, high_code=127)
    assert (affine.scale, affine.zero_point) == (float(np.float32(4 / 255)), -64)
    relu = qparams(0.5, 2.55, low_code=0, high_code=255)  # widened to hold 0
    assert (relu.scale, relu.zero_point) == (pytest.approx(0.01, rel=1e-7), 0)
    negative = qparams(-2.55, -1.0, low_code=0, high_code=255)
    assert negative.zero_point == 255


def test_a_range_of_nothing_has_a_scale_that_divides():
    params = qparams(0.0, 0.0, low_code=-128, high_code=127)
    assert params.scale == SMALLEST_SCALE
    assert params.zero_point == -128


def test_codes_are_those_of_torch():
    import torch

    values = np.random.default_rng(0).standard_normal((4, 50)).astype(np.float32) * 2
    params = qparams(-2.0, 3.0, low_code=0, high_code=255)
    theirs = torch.fake_quantize_per_tensor_affine(torch.from_numpy(values), params.scale, params.zero_point, 0, 255)
    np.testing.assert_allclose(fake_quantize(values, params, 0, 255), theirs.numpy(), rtol=1e-6)
