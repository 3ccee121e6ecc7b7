"""``--fail-on`` of `edgec validate`: what it takes, and what does not hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgec.errors import UsageError
from edgec.validate.limits import misses, parse_limits
from edgec.validate.records import Drift, RunResult, Validation


def test_limits_are_points_in_either_form() -> None:
    found = parse_limits(["drop=0.5,drift=5%", "disagreement = 3 points"])
    assert [(item.quantity, item.amount) for item in found] == [("drop", 0.5), ("drift", 5.0), ("disagreement", 3.0)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("drfit=5", 'no quantity is called "drfit"'),
        ("drop", 'drop: "" is not a limit'),
        ("drop=-1", 'drop: "-1" is not a limit'),
        ("drop=1ms", 'drop: "ms" is not a unit of it'),
        ("drop=1,drop=2", "drop stands twice"),
        ("", 'is called ""'),
    ],
)
def test_bad_limits_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match="--fail-on") as caught:
        parse_limits([text])
    assert told in caught.value.what


@pytest.mark.parametrize(
    ("limit", "value"), [("drop=0.9", 1.0), ("fall=5.5", 6.0), ("disagreement=2", 3.0), ("drift=38.9", 39.0)]
)
def test_what_does_not_hold(make_validation: Callable[..., Validation], limit: str, value: float) -> None:
    (miss,) = misses(make_validation(), parse_limits([limit]))
    assert miss.value == pytest.approx(value)
    assert "b/model.onnx" in str(miss)


def test_what_holds(make_validation: Callable[..., Validation]) -> None:
    assert misses(make_validation(), parse_limits(["drop=1,fall=6,disagreement=3,drift=39"])) == ()


def test_what_cannot_be_told_does_not_hold(
    make_validation: Callable[..., Validation], make_run: Callable[..., RunResult]
) -> None:
    untold = make_run(paired=None, value=None, agreement=None)
    nothing = Drift(bundle="b", artifact="a", runtime="", samples=0, outside=None, evaluation=None, reason="too old")
    found = misses(
        make_validation(runs=(untold,), drift=(nothing,)), parse_limits(["drop=1,fall=6,disagreement=3,drift=39"])
    )
    assert [item.value for item in found] == [None] * 4
    assert "cannot be told (too old)" in str(found[-1])
    failed = make_run(failure="no such runtime")
    (miss,) = misses(make_validation(runs=(failed,)), parse_limits(["drop=1"]))
    assert "no such runtime" in str(miss)


def test_the_float_model_itself_is_not_judged(
    make_validation: Callable[..., Validation], make_run: Callable[..., RunResult]
) -> None:
    assert misses(make_validation(runs=(make_run(role="float", paired=None),)), parse_limits(["drop=0"])) == ()


def test_drift_is_what_leaves_ranges_or_what_moves_within(make_validation: Callable[..., Validation]) -> None:
    (drift,) = make_validation().drift
    assert drift.leaving == pytest.approx(39.0)
    assert drift.moved == pytest.approx(38.29, abs=0.01)  # 2 Phi(1 / 2) - 1
    assert (drift.points, drift.left, drift.clear) == (pytest.approx(39.0), 1, True)
