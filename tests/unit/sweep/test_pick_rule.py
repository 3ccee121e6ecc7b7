"""Rules pick what they say, and say what is wrong with them before anything runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgec.errors import GateError, UsageError
from edgec.sweep.pick import parse_rule
from edgec.sweep.records import Point


def test_conditions_then_the_aim(make_point: Callable[..., Point]) -> None:
    points = [make_point(95, 3.0, 30), make_point(91, 1.0, 200), make_point(92, 2.0, 100), make_point(80, 0.1, 1)]
    assert parse_rule("accuracy>=0.90, size<=100, min latency").pick(points) == 2
    assert parse_rule("accuracy >= 90%, min latency").pick(points) == 1
    assert parse_rule("max accuracy").pick(points) == 0
    assert parse_rule("drop<4,min size").pick(points) == 0
    assert parse_rule("size<=0.1MiB, latency<2.5ms, max accuracy").pick(points) == 2
    assert parse_rule("sqnr>29dB, ratio<=0.5, memory<71MB, agreement>0.9, min size").pick(points) == 3


def test_equal_ones_differ_by_accuracy_and_size(make_point: Callable[..., Point]) -> None:
    points = [make_point(90, 1.0, 10), make_point(91, 1.0, 20), make_point(91, 1.0, 15), make_point(91, 1.0, 15)]
    assert parse_rule("min latency").pick(points) == 2


def test_what_was_not_measured_is_not_picked(make_point: Callable[..., Point]) -> None:
    points = [make_point(99, None, 1), make_point(99, 0.1, 1, failure="crashed"), make_point()]
    assert parse_rule("accuracy>=0.5, min latency").pick(points) == 2
    assert parse_rule("min size").pick(points) == 0  # it needs no latency


def test_nothing_holds_the_rule(make_point: Callable[..., Point]) -> None:
    with pytest.raises(GateError, match=r"accuracy>=0.95: the best is 0.92(.|\n)*size<=5: the best is 10"):
        parse_rule("accuracy>=0.95, size<=5, min latency").pick([make_point(90), make_point(92)])
    with pytest.raises(GateError, match="latency: not measured"):
        parse_rule("min latency").pick([make_point(ms=None)])


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("accuracy>=0.9", "no aim"),
        ("min latency, max accuracy", "more than one aim"),
        ("", "neither a condition nor an aim"),
        ("accuracy>=0.9 min latency", "neither a condition nor an aim"),
        ("accuracy=0.9, min latency", "neither a condition nor an aim"),
        ("accuracy>=1.2.3, min latency", "1.2.3 is not a number"),
        ("accuracy>=90, min latency", "share from 0 to 1: 0.9, or 90%"),
        ("acuracy>=0.9, min latency", 'did you mean "accuracy"'),
        ("min speed", "known: accuracy"),
        ("accuracy>=0.9x, min latency", "accuracy is in a share"),
        ("size<=5GB, min latency", "size is in KiB"),
        ("size<=-, min latency", "neither a condition nor an aim"),
    ],
)
def test_wrong_rules(text: str, reported: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_rule(text)
    assert reported in str(raised.value)


def test_the_projects_metric_counts() -> None:
    assert parse_rule("accuracy>=31.5, min size", "metric.py:psnr").conditions[0].value == 31.5
    with pytest.raises(UsageError, match="accuracy is not measured: the metric is sqnr"):
        parse_rule("accuracy>=0.9, min size", "sqnr")
