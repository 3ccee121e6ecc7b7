"""Which runtimes an artifact must be right in, by what its attempts show of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgec.backends.interface import OpDifference, RuntimeSpec
from edgec.ladder.runtimes import AllowedRuntimes
from edgec.verify.records import GateResult, Measurement, OutputFidelity

NEW, OLD = "new", "old"
SPECS = tuple(RuntimeSpec(name=name, distribution="numpy") for name in (NEW, OLD))
OP = OpDifference(name="x/y", op="RESIZE", before_db=110.0, sqnr_db=0.5)
Make = Callable[..., Measurement]


@pytest.fixture
def measured(make_measurement: Make) -> Make:
    """A runtime's measurement: dB, or why it failed."""

    def make(runtime: str, found: float | str, *, judged: bool = True) -> Measurement:
        if isinstance(found, str):
            return make_measurement(runtime=runtime, judged=judged, fidelity=(), metric=None, failure=found)
        fidelity = (OutputFidelity(output="y", sqnr_db=found, max_abs_error=1.0),)
        return make_measurement(runtime=runtime, judged=judged, fidelity=fidelity)

    return make


def missed(runtime: str, gate: str = "min_sqnr_db") -> GateResult:
    return GateResult(
        gate=gate, artifact="model.onnx", runtime=runtime, limit=20.0, value=1.0, state="failed", margin=-19.0
    )


def allowed(*, insisted: bool = False) -> AllowedRuntimes:
    return AllowedRuntimes(SPECS, insisted)


@pytest.mark.parametrize(("right", "wrong"), [(NEW, OLD), (OLD, NEW)])
def test_one_far_from_another_that_is_right_is_left_out_with_its_op(measured: Make, right: str, wrong: str) -> None:
    runtimes = allowed()
    assert runtimes.unknown
    asked = []

    def find(*names: str) -> OpDifference:
        asked.append(names)
        return OP

    both = (measured(right, 25.0), measured(wrong, 0.1))
    found = runtimes.leave_out_wrong(both, [missed(wrong)], find)
    assert {item.runtime: item.judged for item in found} == {right: True, wrong: False}
    assert asked == [(right, wrong)]
    assert runtimes.coverage[wrong] == (
        f"its outputs are at 0.1 dB from the float model's, and {right} has 25.0 dB on the same file; "
        'they differ from RESIZE "x/y" on (alike to 110 dB before it, 0 after)'
    )
    assert [(item.name, item.judged) for item in runtimes.in_order] == [(right, True), (wrong, False)]


def test_one_that_does_not_run_the_file_is_left_out_with_its_words(measured: Make) -> None:
    runtimes = allowed()
    both = (measured(NEW, 40.0), measured(OLD, "no kernel for LOG version 2"))
    runtimes.leave_out_wrong(both, [missed(OLD, "runs")], lambda *_: OP)
    assert runtimes.coverage == {OLD: "no kernel for LOG version 2; new has 40.0 dB on the same file"}


def test_what_both_lose_is_a_matter_of_the_recipe(measured: Make) -> None:
    runtimes = allowed()
    both = (measured(NEW, 21.0), measured(OLD, 18.0))
    assert runtimes.leave_out_wrong(both, [missed(OLD)], lambda *_: OP) == both
    assert runtimes.coverage == {}
    assert not runtimes.unknown  # later attempts end at the first missed gate
    assert runtimes.in_order == SPECS


def test_what_is_far_off_waits_for_an_attempt_in_which_the_other_is_right(measured: Make) -> None:
    runtimes = allowed()
    both = (measured(NEW, 1.0), measured(OLD, 15.0))
    assert runtimes.leave_out_wrong(both, [missed(NEW), missed(OLD)], lambda *_: OP) == both
    assert [item.name for item in runtimes.in_order] == [OLD, NEW]
    later = (measured(OLD, 25.0), measured(NEW, 1.0))
    runtimes.leave_out_wrong(later, [missed(NEW)], lambda *_: None)
    assert list(runtimes.coverage) == [NEW]


def test_a_size_that_is_missed_is_no_fault_of_a_runtime(measured: Make) -> None:
    runtimes = allowed()
    both = (measured(NEW, 60.0), measured(OLD, 40.0))
    runtimes.leave_out_wrong(both, [missed(OLD, "max_size_kib")], lambda *_: OP)
    assert runtimes.coverage == {}


def test_none_is_left_out_where_the_target_names_them_or_there_is_no_other(measured: Make) -> None:
    both = (measured(NEW, 25.0), measured(OLD, 0.1))
    for runtimes, found in ((allowed(insisted=True), both), (allowed(), (measured(NEW, 25.0, judged=False), both[1]))):
        assert runtimes.leave_out_wrong(found, [missed(OLD)], lambda *_: OP) == found
        assert runtimes.coverage == {}
    assert not allowed(insisted=True).unknown


def test_one_that_cannot_be_had_here_is_left_out_from_the_start() -> None:
    reason = "old has no wheel for this Python (3.13)"
    specs = (SPECS[0], SPECS[1].model_copy(update={"missing": reason}))
    runtimes = AllowedRuntimes(specs, insisted=False)
    assert not runtimes.unknown
    assert [(item.name, item.judged) for item in runtimes.in_order] == [(NEW, True), (OLD, False)]
    assert runtimes.coverage == {OLD: reason}
