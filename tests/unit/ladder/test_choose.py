"""Which of several candidates goes before the gates, and which attempt is kept that misses its goal."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.backends.interface import Artifact
from edgec.ladder.choose import TIE_DB, WORTH_DB, nearest, worth_keeping
from edgec.ladder.maker import CompiledArtifact
from edgec.ladder.trial import Attempt
from edgec.quant.recipe import RANGE_METHODS, Recipe
from edgec.verify.records import CandidateScore, Measurement, OutputFidelity


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
    found = nearest([item for item in scores(*values) if item.sqnr_db is not None])
    assert found.recipe.calibration == RANGE_METHODS[chosen]


@pytest.mark.parametrize(
    ("attempts", "chosen"),
    [
        ([(16.0, 0), (16.5, 17), (16.2, 25)], 0),
        ([(14.0, 0), (16.5, 17), (16.2, 12)], 2),
        ([(16.0, 0), (16.0, 0)], 0),
        ([(15.0, 3), (15.0 + WORTH_DB, 3)], 0),
        ([(15.0, 0), (15.1 + WORTH_DB, 1)], 1),
        ([(-math.inf, 0), (12.0, 9)], 1),
    ],
)
def test_float_layers_are_kept_where_they_are_worth_it(
    attempts: list[tuple[float, int]],
    chosen: int,
    plain_artifact: Artifact,
    make_measurement: Callable[..., Measurement],
) -> None:
    made = [
        Attempt(
            recipe=Recipe(float_layers=tuple(f"layer{index:02}" for index in range(count))),
            precision="int8",
            made=CompiledArtifact(plain_artifact, Path()),
            measurements=(make_measurement(fidelity=(OutputFidelity(output="y", sqnr_db=value, max_abs_error=1.0),)),),
        )
        for value, count in attempts
    ]
    assert worth_keeping(made) is made[chosen]
