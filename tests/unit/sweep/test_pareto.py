"""The front: nothing on it is beaten, nothing off it is unbeaten."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.sweep.pareto import on_front
from edgec.sweep.records import Point


def test_each_respect_alone_is_enough(make_point: Callable[..., Point]) -> None:
    points = [make_point(95, 3.0, 30), make_point(90, 1.0, 30), make_point(90, 3.0, 10), make_point(90, 3.0, 30)]
    assert on_front(points) == (True, True, True, False)


def test_ties_are_kept(make_point: Callable[..., Point]) -> None:
    assert on_front([make_point(), make_point()]) == (True, True)
    assert on_front([make_point(), make_point(), make_point(91)]) == (False, False, True)


def test_what_is_not_measured_takes_no_part(make_point: Callable[..., Point]) -> None:
    best = make_point(99, None, 1)
    assert on_front([best, make_point()]) == (False, True)
    assert on_front([make_point(99, 0.1, 1, failure="it crashed"), make_point()]) == (False, True)
    assert on_front([make_point(None), make_point(None, sqnr_db=40.0)]) == (False, True)  # sqnr is the metric then
    assert on_front([make_point(None, sqnr_db=None)]) == (False,)


def test_devices_do_not_compete(make_point: Callable[..., Point]) -> None:
    assert on_front([make_point(99, 0.1, 1, device="rpi5"), make_point()]) == (True, True)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12))
def test_as_defined(make_point: Callable[..., Point], values: list[tuple[int, int, int]]) -> None:
    points = [make_point(90.0 + good, 1.0 + slow, 1.0 + large) for good, slow, large in values]
    for (good, slow, large), on in zip(values, on_front(points), strict=True):
        beaten = any(
            (g >= good and s <= slow and n <= large) and (g > good or s < slow or n < large) for g, s, n in values
        )
        assert on != beaten
