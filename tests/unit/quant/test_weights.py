"""Scales of weights."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.quant.qparams import SMALLEST_SCALE
from edgec.quant.recipe import WeightGrid
from edgec.quant.weights import mse_weight_scales, weight_scales


def squared_errors(weight: np.ndarray, scales: np.ndarray, limit: float) -> np.ndarray:
    rows = weight.reshape(len(scales), -1)
    codes = np.clip(np.rint(rows / scales[:, None]), -limit, limit)
    return np.square(codes * scales[:, None] - rows).sum(axis=1)


def test_scales_reach_the_largest_weight_of_each_channel():
    weight = np.array([[[1.0, -3.0]], [[0.5, 0.25]], [[0.0, 0.0]]])
    grid = WeightGrid(limit=127)
    assert weight_scales(weight, grid, 0) == pytest.approx([3 / 127, 0.5 / 127, SMALLEST_SCALE], rel=1e-6)
    assert weight_scales(weight, grid, -1) == pytest.approx([1 / 127, 3 / 127], rel=1e-6)
    assert weight_scales(weight, WeightGrid(limit=64, per_channel=False), 0) == pytest.approx([3 / 64], rel=1e-6)


@pytest.mark.parametrize("limit", [7.0, 63.0, 127.0])
def test_searched_scales_are_never_worse(limit):
    random = np.random.default_rng(0)
    weight = random.standard_t(4, (16, 8, 3, 3)) * np.geomspace(1e-3, 10, 16)[:, None, None, None]
    for grid, count in ((WeightGrid(limit=limit), 16), (WeightGrid(limit=limit, per_channel=False), 1)):
        plain, searched = weight_scales(weight, grid, 0), mse_weight_scales(weight, grid, 0)
        assert searched.shape == (count,)
        before, after = (squared_errors(weight, scales, limit) for scales in (plain, searched))
        assert (after <= before * (1 + 1e-5)).all()
        assert (searched <= plain).all()


def test_four_bits_gain_by_clipping():
    weight = np.random.default_rng(0).standard_normal((4, 2000))
    grid = WeightGrid(limit=7)
    plain, searched = weight_scales(weight, grid, 0), mse_weight_scales(weight, grid, 0)
    assert (searched < 0.9 * plain).all()
    assert (squared_errors(weight, searched, 7) < 0.8 * squared_errors(weight, plain, 7)).all()


def test_weights_of_zero_keep_a_scale():
    assert mse_weight_scales(np.zeros((2, 3)), WeightGrid(), 0) == pytest.approx([SMALLEST_SCALE] * 2)
