"""Names, axis orders, and the comparison that chooses them."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.backends.tflite.layout import artifact_names, input_permutation, match_output, sqnr_db, to_artifact
from edgec.model.spec import TensorSpec

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "dtype", "order"),
    [((1, 3, 8, 6), "float32", (0, 2, 3, 1)), ((1, 3, 8, 6), "int64", None), ((1, 40, 99), "float32", None)],
)
def test_only_rank_4_float_inputs_become_nhwc(shape: tuple[int, ...], dtype: str, order: object) -> None:
    assert input_permutation(TensorSpec(name="x", shape=shape, dtype=dtype)) == order  # type: ignore[arg-type]


def test_names_are_valid_and_unique() -> None:
    assert artifact_names(["x.1", "x/1", "1", "", "x_1"]) == ("x_1", "x_1_2", "t_1", "tensor", "x_1_3")


def test_output_order_is_found_where_all_axes_are_equal() -> None:
    want = [RANDOM.standard_normal((1, 4, 4, 4)) for _ in range(2)]
    order, error_db = match_output(want, [to_artifact(item, (0, 2, 3, 1)) for item in want])
    assert order == (0, 3, 1, 2)
    assert error_db == float("inf")


def test_same_layout_is_preferred_when_orders_are_equally_near() -> None:
    want = [np.ones((1, 2, 2))]
    assert match_output(want, want) == (None, float("inf"))


def test_wrong_rank_or_shape_matches_nothing() -> None:
    want = [np.ones((1, 2, 3))]
    assert match_output(want, [np.ones((1, 6))])[1] == float("-inf")
    assert match_output(want, [np.ones((1, 2, 4))])[1] == float("-inf")


def test_sqnr_of_a_known_error() -> None:
    assert sqnr_db([np.array([10.0, 0.0])], [np.array([10.0, 1.0])]) == pytest.approx(20.0)


def test_values_that_are_not_finite_must_stay_so() -> None:
    want = [np.array([1.0, np.inf, np.nan])]
    assert sqnr_db(want, [np.array([1.0, np.inf, np.nan])]) == float("inf")
    assert sqnr_db(want, [np.array([1.0, 5.0, np.nan])]) == float("-inf")
    assert sqnr_db(want, [np.array([np.nan, np.inf, np.nan])]) == float("-inf")


@pytest.mark.parametrize(("probabilities", "least"), [(True, np.inf), (False, -3.0)])
def test_probabilities_near_zero_are_equal(probabilities: bool, least: float) -> None:
    wanted = np.full((1, 4), 3e-8, np.float32)
    order, decibels = match_output([wanted], [wanted * 2], probabilities=probabilities)
    assert (order, decibels) == (None, pytest.approx(least, abs=3.1))
    _, decibels = match_output([wanted], [wanted + np.float32(0.01)], probabilities=probabilities)
    assert decibels < -60
