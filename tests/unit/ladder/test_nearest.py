"""Which of several candidates goes before the gates."""

from __future__ import annotations

import math

import pytest

from edgec.ladder.climb import TIE_DB, _nearest
from edgec.quant.recipe import RANGE_METHODS, Recipe
from edgec.verify.records import CandidateScore


def scores(*values: float | None) -> list[CandidateScore]:
    """One for each range method, in their order; agreement falls where SQNR rises."""
    return [
        CandidateScore(recipe=Recipe(calibration=method), sqnr_db=value, agreement=1 - index / 10)
        for index, (method, value) in enumerate(zip(RANGE_METHODS, values, strict=False))
    ]


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ((20.0, 25.0, 22.0), 1),
        ((20.0, 20.0 + TIE_DB, 20.0), 0),
        ((20.0, 20.0 + TIE_DB * 1.01, 20.0 + TIE_DB * 1.1), 1),
        ((None, 3.0, 2.95), 1),
        ((-math.inf, -5.0), 1),
        ((-math.inf, -math.inf), 0),
        ((30.0, math.inf, math.inf), 1),
    ],
)
def test_the_first_of_equally_near_ones(values: tuple[float | None, ...], chosen: int) -> None:
    found = _nearest([item for item in scores(*values) if item.sqnr_db is not None])
    assert found.recipe.calibration == RANGE_METHODS[chosen]
