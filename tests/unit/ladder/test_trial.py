"""Verification of attempts: the runtimes that are run, in which order, and those that are left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgec.backends.interface import Artifact, OpDifference, RuntimeSpec
from edgec.ladder.maker import CompiledArtifact
from edgec.ladder.trial import Trial
from edgec.quant.recipe import Recipe
from edgec.verify.records import GateResult, Measurement, OutputFidelity

FIRST, SECOND = "first", "second"
MakeTrial = Callable[..., tuple[Trial, list[str]]]


@pytest.fixture
def make(make_measurement: Callable[..., Measurement], plain_artifact: Artifact, tmp_path: Path) -> MakeTrial:
    """A trial of an artifact with two runtimes at given SQNR; below 20 dB a gate is missed."""

    def trial(sqnr_db: dict[str, float], *, insisted: bool = False) -> tuple[Trial, list[str]]:
        ran: list[str] = []

        def compile(recipe: Recipe, folder: Path, precision: str) -> CompiledArtifact:
            return CompiledArtifact(plain_artifact.model_copy(update={"precision": precision}), folder)

        def verify(made: CompiledArtifact, runtime: RuntimeSpec) -> Measurement:
            ran.append(runtime.name)
            fidelity = (OutputFidelity(output="y", sqnr_db=sqnr_db[runtime.name], max_abs_error=1.0),)
            return make_measurement(runtime=runtime.name, judged=runtime.judged, fidelity=fidelity)

        def judge(measured: Sequence[Measurement]) -> tuple[GateResult, ...]:
            return tuple(
                GateResult(
                    gate="min_sqnr_db", artifact=item.artifact, runtime=item.runtime, limit=20.0,
                    value=item.sqnr_db() or 0.0, state="met" if (item.sqnr_db() or 0.0) >= 20 else "failed",
                    margin=(item.sqnr_db() or 0.0) - 20, reason="as measured",
                )
                for item in measured if item.judged
            )  # fmt: skip

        difference = OpDifference(name="4", op="linear", before_db=90.0, sqnr_db=1.0)
        runtimes = tuple(RuntimeSpec(name=name, distribution=name) for name in sqnr_db)
        emit = SimpleNamespace(runtimes=tuple(sqnr_db) if insisted else None)
        maker: Any = SimpleNamespace(
            item=SimpleNamespace(runtimes=runtimes, emit=emit),
            target=SimpleNamespace(precision="int8"),
            scratch=tmp_path,
            compile=compile,
        )
        verifier: Any = SimpleNamespace(
            verify=verify, judge=judge, first_difference=lambda made, right, wrong: difference
        )
        return Trial(maker, verifier), ran

    return trial


def test_each_attempt_has_a_folder_of_its_own(make: MakeTrial) -> None:
    trial, ran = make({FIRST: 30.0, SECOND: 30.0})
    attempts = [trial.attempt(Recipe()), trial.attempt(Recipe(), "fp32")]
    assert len({item.folder for item in attempts}) == 2
    assert [item.precision for item in attempts] == ["int8", "fp32"]
    assert ran == [FIRST, SECOND] * 2
    assert attempts[0].missed == ()


def test_a_runtime_that_is_wrong_alone_is_left_out_with_the_op(make: MakeTrial) -> None:
    trial, ran = make({FIRST: 3.0, SECOND: 40.0})
    attempt = trial.attempt(Recipe())
    assert not attempt.refused
    (gap,) = attempt.left_out
    assert gap.subject == f"model.onnx in {FIRST}"
    assert 'they differ from linear "4" on' in gap.reason
    assert [item.judged for item in attempt.measurements] == [False, True]
    trial.attempt(Recipe())
    assert ran == [FIRST, SECOND, SECOND, FIRST]  # the right one first, now that it is known


def test_a_runtime_that_the_target_names_is_never_left_out(make: MakeTrial) -> None:
    trial, ran = make({FIRST: 3.0, SECOND: 40.0}, insisted=True)
    attempt = trial.attempt(Recipe())
    assert attempt.refused
    assert attempt.left_out == ()
    assert ran == [FIRST]  # one missed gate is enough
    complete = trial.complete(attempt)
    assert [item.runtime for item in complete.measurements] == [FIRST, SECOND]
    assert complete.worst_sqnr == 3.0


def test_both_wrong_is_the_recipes_fault(make: MakeTrial) -> None:
    trial, _ = make({FIRST: 3.0, SECOND: 5.0})
    attempt = trial.attempt(Recipe())
    assert attempt.refused
    assert attempt.left_out == ()
    assert [item.runtime for item in attempt.measurements] == [FIRST, SECOND]
