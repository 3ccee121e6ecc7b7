"""The order in which recipes are tried, what ends the search, and which artifact is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgec.backends.interface import Artifact, Layer
from edgec.errors import EdgecError, LockError, StorageError, UnsupportedError
from edgec.ladder.climb import Climb, Climbed
from edgec.ladder.maker import CompiledArtifact, ScoringSamples
from edgec.ladder.trial import Attempt
from edgec.lock.file import LockedArtifact
from edgec.plan.rungs import FALLBACK, Rung, first_recipe, rungs
from edgec.project.spec import Effort
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.target.spec import Precision
from edgec.verify.records import CandidateScore, GateResult, Measurement, OutputFidelity

LAYERS = tuple(f"layer{index}" for index in range(8))
LEVEL_DB = {"refused": 10.0, "short": 20.0}


@dataclass
class ScriptedTrial:
    """Artifacts whose SQNR in dB is a function of recipe and precision; gates: at least 10 dB, better 20 dB."""

    sqnr_db: Callable[[Recipe, Precision], float]
    measurement: Callable[..., Measurement]
    plain: Artifact
    fallback: Precision | None = None
    fails: Callable[[Recipe], EdgecError | None] = lambda recipe: None
    steps: list[str] = field(default_factory=list)
    made: list[tuple[Recipe, Precision]] = field(default_factory=list)
    scored: list[Recipe] = field(default_factory=list)

    def __post_init__(self) -> None:
        target = load_target("rpi4-int8", Path()).target
        target = target.model_copy(
            update={"quantize": target.quantize.model_copy(update={"fallback": self.fallback})}
        )  # fmt: skip
        spool: Any = None  # not looked at
        self.samples = ScoringSamples(spool, range(8), {})
        self.maker = SimpleNamespace(
            item=SimpleNamespace(file="model.onnx"),
            target=target,
            progress=self.steps.append,
            layers=lambda recipe: tuple(Layer(name=name, op="conv2d") for name in LAYERS),
            compare_layers=lambda recipe: (),
            reasons_against=lambda recipe: ["no int16"] if recipe.activations == "int16" else [],
            lower=self._lower,
        )

    def _lower(self, recipe: Recipe) -> None:
        if error := self.fails(recipe):
            raise error

    def score(self, recipe: Recipe, samples: Any = None) -> CandidateScore:
        self.scored.append(recipe)
        return CandidateScore(recipe=recipe, sqnr_db=self.sqnr_db(recipe, "int8"), agreement=None)

    def attempt(self, recipe: Recipe, precision: Precision | None = None) -> Attempt:
        precision = precision or "int8"
        self.made.append((recipe, precision))
        value = self.sqnr_db(recipe, precision)
        state = "failed" if value < LEVEL_DB["refused"] else "short" if value < LEVEL_DB["short"] else "met"
        gate = GateResult(
            gate="min_sqnr_db", artifact="model.onnx", runtime="here", limit=20.0, value=value, state=state,
            margin=value - 20.0, reason="as measured",
        )  # fmt: skip
        fidelity = (OutputFidelity(output="y", sqnr_db=value, max_abs_error=1.0),)
        return Attempt(
            recipe, precision, CompiledArtifact(self.plain, Path()), (self.measurement(fidelity=fidelity),), (gate,)
        )

    def complete(self, attempt: Attempt) -> Attempt:
        return attempt

    def climb(self, effort: Effort = "balanced", *, deadline: float = math.inf, **more: Any) -> Climbed:
        ladder = more.pop("ladder", None) or rungs(self.maker.target, effort, calibrated=True, trainable=True)
        trial: Any = self
        locked = more.pop("locked", None)
        return Climb(trial, deadline, **more).run(ladder, first_recipe(self.maker.target), locked)


Script = Callable[..., ScriptedTrial]


@pytest.fixture
def script(make_measurement: Callable[..., Measurement], plain_artifact: Artifact) -> Script:
    def make(sqnr_db: Callable[[Recipe, Precision], float], **more: Any) -> ScriptedTrial:
        return ScriptedTrial(sqnr_db, make_measurement, plain_artifact, **more)

    return make


def states(climbed: Climbed) -> list[tuple[str, str]]:
    return [(rung.rung, rung.state) for rung in climbed.rungs]


def test_the_first_rung_that_meets_its_gates_ends_the_search(script: Script) -> None:
    trial = script(lambda recipe, precision: 30.0 if recipe.calibration == "mse" else 15.0)
    climbed = trial.climb()
    assert states(climbed) == [("calibration", "met")]
    assert climbed.attempt.recipe.calibration == "mse"
    assert len(trial.made) == 1
    assert {recipe.calibration for recipe in trial.scored} > {"mse", "minmax"}
    assert [item.chosen for item in climbed.rungs[0].candidates].count(True) == 1
    assert not climbed.hurried


def test_one_that_only_misses_its_goal_is_kept(script: Script) -> None:
    climbed = script(lambda recipe, precision: 15.0).climb()
    assert {state for _, state in states(climbed)} <= {"short", "skipped"}
    assert not climbed.attempt.refused
    assert climbed.attempt.precision == "int8"


@pytest.mark.parametrize("fallback", [None, "fp16"])
def test_what_no_recipe_mends_falls_back_or_is_refused(script: Script, fallback: Precision | None) -> None:
    trial = script(lambda recipe, precision: 60.0 if precision != "int8" else 5.0, fallback=fallback)
    climbed = trial.climb()
    if fallback is None:
        assert climbed.attempt.refused
        assert climbed.attempt.precision == "int8"
    else:
        assert climbed.attempt.precision == fallback
        assert climbed.rungs[-1].rung == FALLBACK
        assert climbed.rungs[-1].reason.startswith("fp16: no rung of the accuracy ladder met the gates")


def test_what_is_wrong_in_float32_as_well_is_not_searched_for(script: Script) -> None:
    trial = script(lambda recipe, precision: 3.0, fallback="fp16")
    climbed = trial.climb()
    assert [precision for _, precision in trial.made] == ["int8", "fp32"]
    assert "no recipe mends what is wrong in float32 as well" in climbed.rungs[1].reason
    assert climbed.attempt.refused


def test_the_fewest_of_the_noisiest_layers_stay_in_float(script: Script) -> None:
    noise = {name: (0.02 if index in (2, 5) else 0.0005) for index, name in enumerate(LAYERS)}

    def sqnr_db(recipe: Recipe, precision: Precision) -> float:
        total = sum(value for name, value in noise.items() if name not in recipe.float_layers)
        return 99.0 if precision != "int8" or total == 0 else -10 * math.log10(total)

    trial = script(sqnr_db)
    climbed = trial.climb()
    assert climbed.attempt.recipe.float_layers == ("layer2", "layer5")
    assert climbed.rungs[-1].rung == "mixed-precision"
    assert len([recipe for recipe, _ in trial.made if recipe.float_layers]) <= 3
    assert any(step.startswith("float layers: 1 of at most 14") for step in trial.steps)


def test_time_that_is_up_ends_the_search_and_is_recorded(script: Script) -> None:
    climbed = script(lambda recipe, precision: 15.0).climb(deadline=time.monotonic() - 1)
    assert climbed.hurried
    assert climbed.rungs[0].state == "short"
    assert {rung.reason for rung in climbed.rungs[1:]} == {
        "the time budget is used up: --time-budget SECONDS gives more (inf: no limit)"
    }


LOCKED = LockedArtifact(recipe=Recipe(calibration="entropy"), precision="int8", rungs=())


def test_a_locked_recipe_is_followed_without_a_search(script: Script) -> None:
    trial = script(lambda recipe, precision: 30.0)
    climbed = trial.climb(locked=LOCKED)
    assert (climbed.attempt.recipe, climbed.rungs) == (LOCKED.recipe, ())
    assert trial.scored == []


def test_a_locked_recipe_that_is_refused_is_searched_for_unless_it_binds(script: Script) -> None:
    def sqnr_db(recipe: Recipe, precision: Precision) -> float:
        return 5.0 if recipe.calibration == "entropy" else 30.0

    climbed = script(sqnr_db).climb(locked=LOCKED)
    assert states(climbed) == [("locked", "failed"), ("calibration", "met")]
    with pytest.raises(LockError, match="does not meet its gates: here: min_sqnr_db"):
        script(sqnr_db).climb(locked=LOCKED, bound=True)


def test_an_artifact_that_cannot_be_lowered(script: Script) -> None:
    def fails(recipe: Recipe) -> EdgecError:
        return UnsupportedError("no kernel for it")

    def sqnr_db(recipe: Recipe, precision: Precision) -> float:
        return 60.0

    with pytest.raises(UnsupportedError, match="no kernel for it"):
        script(sqnr_db, fails=fails).climb()
    climbed = script(sqnr_db, fails=fails, fallback="fp32").climb()
    assert climbed.attempt.precision == "fp32"
    assert climbed.rungs[-1].reason == "fp32: no kernel for it"


def test_a_full_disk_is_never_a_reason_for_another_precision(script: Script) -> None:
    trial = script(lambda recipe, precision: 60.0, fails=lambda recipe: StorageError("disk full"), fallback="fp32")
    with pytest.raises(StorageError):
        trial.climb()


def test_a_ladder_without_a_possible_rung_is_refused(script: Script) -> None:
    ladder: Sequence[Rung] = (Rung("int16-activations", {"activations": "int16"}),)
    with pytest.raises(UnsupportedError, match=r"no rung of the accuracy ladder can be tried \(int16-activations: no"):
        script(lambda recipe, precision: 30.0).climb(ladder=ladder)
