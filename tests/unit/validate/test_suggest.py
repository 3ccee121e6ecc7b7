"""Which samples are suggested for calibration."""

from __future__ import annotations

import numpy as np

from edgec.model.spec import Array
from edgec.validate.drift import Observed
from edgec.validate.records import Drift
from edgec.validate.suggest import choose

DRIFT = Drift(bundle="b", artifact="a", runtime="r", samples=4, outside=None, evaluation=None)


def seen(shares: Array, indices: tuple[int, ...] = (10, 11, 12, 13)) -> Observed:
    return Observed(DRIFT, indices, shares)


def test_ranges_that_few_samples_leave_are_covered_first() -> None:
    shares = np.array([[0.5, 0.0], [0.5, 0.0], [0.4, 0.0], [0.0, 0.1]])
    assert set(choose([seen(shares)], 2)) == {10, 13}


def test_only_samples_that_leave_a_range_are_chosen() -> None:
    assert choose([seen(np.array([[0.0], [0.2], [0.0], [0.1]]))], 9) == (11, 13)
    assert choose([seen(np.zeros((4, 2)))], 9) == ()
    assert choose([Observed(DRIFT)], 9) == ()


def test_all_artifacts_count() -> None:
    one, other = np.array([[0.9], [0.0], [0.0], [0.0]]), np.array([[0.0], [0.0], [0.9], [0.0]])
    assert set(choose([seen(one), Observed(DRIFT), seen(other)], 4)) == {10, 12}


def test_layers_left() -> None:
    found = seen(np.array([[0.1, 0.0], [0.1, 0.2], [0.0, 0.0], [0.0, 0.3]]), (0, 2, 4, 5)).layers_left(6)
    assert found is not None
    assert found.tolist() == [1, -1, 2, -1, 0, 1]
