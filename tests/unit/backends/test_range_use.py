"""Values outside a range, and where in it the others lie."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.backends.interface import RangeWatcher
from edgec.backends.ranges import range_of, use_by_codes, use_by_values
from edgec.backends.registry import BUILT_IN, get_backend


def test_ranges_are_those_of_the_codes() -> None:
    assert range_of(0.5, -128, "int8") == (0.0, 127.5)
    assert range_of(0.1, 128, "uint8") == pytest.approx((-12.8, 12.7))


def test_values_outside_and_their_level() -> None:
    outside, level = use_by_values(np.array([-1.0, 0.0, 1.0, 2.0]), 0.0, 1.0)
    assert (outside, level) == (0.5, 0.5)
    assert use_by_values(np.array([1.04, 1.06]), 0.0, 1.0, step=0.1)[0] == 0.5  # rounding takes the first back
    assert use_by_values(np.array([]), 0.0, 1.0) == (0.0, 0.0)
    assert use_by_values(np.array([3.0]), 2.0, 2.0) == (1.0, 1.0)  # a constant input


def test_codes_at_an_end_are_outside_unless_it_is_zero() -> None:
    codes = np.array([-128, -128, 0, 127], np.int8)
    assert use_by_codes(codes, 0)[0] == 0.75
    assert use_by_codes(codes, -128)[0] == 0.25  # after a ReLU nothing is below 0
    assert use_by_codes(codes, 127)[0] == 0.5
    assert use_by_codes(np.array([-128, 127], np.int8), 0)[1] == 0.5


def test_every_backend_but_the_template_shows_its_activations() -> None:
    known = {name for name in BUILT_IN if isinstance(get_backend(name), RangeWatcher)}
    assert known == set(BUILT_IN) - {"example"}
