"""What two values say about each other, and when they say nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from edgec.bundle.manifest import accuracy_of
from edgec.compare.changes import (
    compare_accuracy,
    compare_agreement,
    compare_latency,
    compare_memory,
    compare_size,
)
from edgec.machine import Machine
from edgec.verify.records import Latency, Measurement, OutputFidelity, Speed

Make = Callable[..., Measurement]

BOARD = Machine(arch="x86_64", cpu="other cpu", features=("avx2",), cores=4)


def speed(ratio: float, float_ms: float = 2.0) -> Speed:
    return Speed(ratio=ratio, low=0.9 * ratio, high=1.1 * ratio, float_ms=float_ms, runs=20)


def latency(ms: float, threads: int = 1) -> Latency:
    return Latency(p50_ms=ms, p90_ms=ms, runs=50, threads=threads)


def test_accuracy_is_the_metric_and_worse_is_less(make_measurement: Make) -> None:
    old = make_measurement()
    assert old.metric is not None
    new = make_measurement(metric=old.metric.model_copy(update={"value": 95.5}))
    change = compare_accuracy(accuracy_of(old), accuracy_of(new), "")
    assert (change.old, change.new, change.worse, change.unit) == (96.5, 95.5, 1.0, "points")
    assert change.relative == pytest.approx(1 / 96.5)
    assert compare_accuracy(accuracy_of(new), accuracy_of(old), "").worse == -1.0
    assert compare_accuracy(accuracy_of(old), accuracy_of(old), "").worse == 0.0


def test_accuracy_on_other_data_or_of_another_metric_is_not_comparable(make_measurement: Make) -> None:
    old = make_measurement()
    assert old.metric is not None
    change = compare_accuracy(accuracy_of(old), accuracy_of(old), "the evaluation data differ")
    assert (change.worse, change.cause, change.reason) == (None, "data", "the evaluation data differ")
    other = make_measurement(metric=old.metric.model_copy(update={"name": "metric.py:score", "unit": "1"}))
    change = compare_accuracy(accuracy_of(old), accuracy_of(other), "")
    assert change.worse is None
    assert "top1 in points, now metric.py:score in 1" in change.reason


@pytest.mark.parametrize(
    ("old", "new", "worse"),
    [(40.0, 30.0, 10.0), (math.inf, math.inf, 0.0), (math.inf, 50.0, math.inf), (50.0, math.inf, -math.inf)],
)
def test_without_a_metric_the_sqnr_is_compared(make_measurement: Make, old: float, new: float, worse: float) -> None:
    def measured(value: float) -> Measurement:
        return make_measurement(metric=None, fidelity=(OutputFidelity(output="y", sqnr_db=value, max_abs_error=0.0),))

    change = compare_accuracy(accuracy_of(measured(old)), accuracy_of(measured(new)), "")
    assert (change.unit, change.worse) == ("dB", worse)


def test_not_a_number_is_never_better(make_measurement: Make) -> None:
    old = make_measurement()
    new = make_measurement(agreement=math.nan)
    change = compare_agreement(accuracy_of(old), accuracy_of(new), "")
    assert (change.worse, change.new, change.cause) == (None, None, "not measured")
    assert "NEW" in change.reason
    none = compare_agreement(accuracy_of(make_measurement(agreement=None)), accuracy_of(new), "other data")
    assert (none.cause, none.reason) == ("not measured", "there is no value in OLD and NEW")


def test_size_in_kib() -> None:
    change = compare_size(2048, 3072)
    assert (change.old, change.new, change.worse, change.relative) == (2.0, 3.0, 1.0, 0.5)
    assert compare_size(0, 1024).relative == math.inf


def test_latency_on_the_same_machine_is_in_milliseconds(make_measurement: Make) -> None:
    old = make_measurement(latency=latency(2.0), speed=speed(2.0))
    new = make_measurement(latency=latency(3.0), speed=speed(1.0))
    change = compare_latency(old, new, "")
    assert (change.unit, change.worse, change.reason) == ("ms", 1.0, "")


def test_a_twin_that_became_slower_too_is_reported(make_measurement: Make) -> None:
    old = make_measurement(latency=latency(2.0), speed=speed(2.0, 4.0))
    new = make_measurement(latency=latency(3.0), speed=speed(2.0, 6.0))
    assert "float32 twin takes 50 % longer too" in compare_latency(old, new, "").reason
    assert compare_latency(old, new, "the model").reason == ""


def test_latency_on_another_machine_is_told_by_the_twin(make_measurement: Make) -> None:
    old = make_measurement(latency=latency(2.0), speed=speed(2.0))
    new = make_measurement(latency=latency(1.0), speed=speed(1.6), machine=BOARD)
    change = compare_latency(old, new, "")
    assert (change.unit, change.old, change.new) == ("x float32", 0.5, 0.625)
    assert change.relative == pytest.approx(0.25)
    assert "test cpu with 2 cores, now other cpu with 4 cores" in change.reason


@pytest.mark.parametrize(
    ("fields", "other_model", "reported"),
    [
        ({"machine": BOARD, "speed": speed(2.0)}, "the model", "cannot show a slower model"),
        ({"machine": BOARD, "speed": None}, "", "NEW has no float32 twin's time"),
        ({"emulated": True, "speed": speed(2.0)}, "", "emulator"),
        ({"latency": latency(1.0, threads=2), "speed": None}, "", "threads differs (1, now 2)"),
        ({"latency": None}, "", "NEW was not timed"),
    ],
)
def test_latency_that_says_nothing(
    make_measurement: Make, fields: dict[str, object], other_model: str, reported: str
) -> None:
    old = make_measurement(latency=latency(2.0), speed=speed(2.0))
    change = compare_latency(old, make_measurement(**fields), other_model)
    assert change.worse is None
    assert reported in change.reason


def test_machines_that_differ_in_features_only(make_measurement: Make) -> None:
    old = make_measurement()
    new = make_measurement(machine=old.machine.model_copy(update={"features": ("avx2", "avx512f")}))
    change = compare_memory(old, new)
    assert (change.worse, change.cause) == (None, "machine")
    assert "x86_64 with fewer features, now x86_64 with avx512f" in change.reason


def test_memory_on_the_same_machine(make_measurement: Make) -> None:
    change = compare_memory(make_measurement(), make_measurement(peak_rss_mb=100.0))
    assert (change.unit, change.worse) == ("MB", 19.0)
    assert compare_memory(make_measurement(), make_measurement(peak_rss_mb=None)).cause == "not measured"
