"""Ranges are cut where the function that reads them has come to its end, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.quant.saturation import FUNCTIONS, Reader, cut, function_of

SIGMOID = Reader("sigmoid", ("x",), ("s",))


@pytest.mark.parametrize(
    ("readers", "function"),
    [
        ([Reader("gelu", ("x",), ("y",))], "gelu"),
        ([SIGMOID], None),
        ([SIGMOID, Reader("mul", ("s", "x"), ("y",))], "silu"),
        ([Reader("hard-sigmoid", ("x",), ("s",)), Reader("mul", ("x", "s"), ("y",))], "hard-swish"),
        ([SIGMOID, Reader("mul", ("x", "other"), ("y",))], None),
        ([SIGMOID, Reader("", ("x",), ("y",))], None),
        ([SIGMOID, Reader("tanh", ("x",), ("y",))], None),
        ([Reader("", ("x",), ("y",))], None),
        ([], None),
    ],
)
def test_what_alone_reads_a_tensor(readers: list[Reader], function: str | None) -> None:
    assert function_of("x", readers) == function


@pytest.mark.parametrize(
    ("function", "low", "high", "expected"),
    [
        ("hard-swish", -30.0, 5.0, (-3.0, 5.0)),
        ("silu", -67.0, 21.0, (-7.0, 21.0)),
        ("silu", -2.0, 21.0, (-2.0, 21.0)),
        ("gelu", -40.0, 0.0, (-4.0, 0.0)),
        ("elu", -50.0, 2.0, (-6.0, 2.0)),
        (None, -50.0, 2.0, (-50.0, 2.0)),
    ],
)
def test_flat_ends_are_cut(function: str | None, low: float, high: float, expected: tuple[float, float]) -> None:
    assert cut(low, high, function) == pytest.approx(expected, abs=1.0)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("low", "high"), [(-60.0, 20.0), (-5.0, 100.0), (-100.0, 0.5), (0.0, 30.0), (-9.0, 9.0)])
def test_beyond_the_cut_nothing_changes_by_a_step(function: str, low: float, high: float) -> None:
    kept = cut(low, high, function)
    assert low <= kept[0] <= 0 <= kept[1] <= high
    values = np.linspace(low, high, 5000)
    compute = FUNCTIONS[function]
    change = np.abs(compute(values) - compute(np.clip(values, *kept))).max()
    assert change <= (kept[1] - kept[0]) / 255 / 4
