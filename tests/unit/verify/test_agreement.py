"""Shares of equal classes: one a sample, one a step, or one an element."""

import numpy as np
import pytest

from edgec.verify.agreement import equal_shares, interval_of, predictions, unit_of

ONE_HOT = np.eye(4, dtype=np.float32)


@pytest.mark.parametrize(
    ("shape", "dtype", "unit"),
    [
        ((1, 10), "float32", "class"),
        ((10,), "float32", "class"),
        ((1, 1, 1, 10), "float32", "class"),
        ((1, 1), "float32", ""),
        ((), "float32", ""),
        ((1, 40, 6625), "float32", "steps"),
        ((40, 1, 6625), "float32", "steps"),
        ((1, 2, 4, 4), "float32", ""),
        ((1, 4, 4), "int64", "elements"),
        ((1,), "bool", "elements"),
    ],
)
def test_units(shape, dtype, unit):
    assert unit_of(shape, dtype) == unit


def test_each_step_counts():
    wanted = ONE_HOT[[[0, 1, 2, 3], [3, 2, 1, 0]]][:, None]
    got = ONE_HOT[[[0, 1, 2, 0], [3, 2, 1, 0]]][:, None] * 0.1
    assert equal_shares(wanted, got, "steps").tolist() == [0.75, 1.0]
    assert equal_shares(wanted[:, 0, 3], got[:, 0, 3], "class").tolist() == [0.0, 1.0]


def test_each_element_counts():
    wanted = np.arange(8).reshape(2, 1, 2, 2)
    got = np.where(wanted == 5, 9, wanted)
    assert equal_shares(wanted, got, "elements").tolist() == [1.0, 0.75]


def test_nan_scores_agree_with_nothing():
    broken = np.full((4, 1, 3), np.nan, np.float32)
    assert predictions(broken).tolist() == [[-1]] * 4
    assert equal_shares(np.zeros((4, 1, 3)), broken, "class").tolist() == [0.0] * 4


def test_intervals():
    assert interval_of(np.array([1.0, 1.0, 0.0, 1.0])).method.startswith("95 % Wilson")
    partly = interval_of(np.array([1.0, 0.9, 0.95, 1.0]))
    assert "t interval" in partly.method
    assert 0.8 < partly.low < 0.9625 < partly.high <= 1.0
    assert interval_of(np.array([0.5])) is None
