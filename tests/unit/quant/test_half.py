"""Rounding to half precision: to one of two neighbours, with errors that cancel within a channel."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.quant.half import SPARED, spared, to_half


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 16, 3, 3)).astype(np.float32)


def test_each_value_is_one_of_its_two_neighbours(weights: np.ndarray) -> None:
    half = to_half(weights, 0).astype(np.float64)
    nearest = weights.astype(np.float16)
    step = np.maximum(
        np.abs(np.nextafter(nearest, np.float16(np.inf)).astype(np.float64) - nearest),
        np.abs(nearest - np.nextafter(nearest, np.float16(-np.inf)).astype(np.float64)),
    )
    assert (np.abs(half - weights) <= step).all()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_errors_of_a_channel_cancel(weights: np.ndarray, axis: int) -> None:
    def sums(half: np.ndarray) -> np.ndarray:
        error = np.moveaxis(half.astype(np.float64) - weights, axis, 0)
        return np.abs(error.reshape(error.shape[0], -1).sum(1))

    assert sums(to_half(weights, axis)).sum() < 0.3 * sums(to_half(weights)).sum()


def test_what_is_half_precision_already_stays(weights: np.ndarray) -> None:
    half = weights.astype(np.float16)
    assert np.array_equal(to_half(half.astype(np.float32), 0), half)


def test_vectors_are_rounded_to_the_nearest() -> None:
    values = np.array([0.1, 70.03, -3e-5], np.float32)
    assert np.array_equal(to_half(values, 0), values.astype(np.float16))


def test_the_smallest_tensors_are_spared_within_their_share() -> None:
    sizes = {"bias": 10, "head": 60, "body": 900, "first": 30}
    assert spared(sizes) == {"bias", "first"}
    assert 100 > SPARED * sum(sizes.values()) >= 40
    assert spared({"only": 5}) == frozenset()
