"""Which artifacts go into a bundle, what it says of the others, and what ends a build of which none is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.backends.interface import Artifact
from edgec.build.artifact import BuiltArtifact, FailedArtifact
from edgec.build.result import BuildResult, ending, without_missed
from edgec.errors import GateError, UnsupportedError
from edgec.ladder.maker import CompiledArtifact
from edgec.ladder.trial import Attempt
from edgec.plan.plan import Plan, make_plan
from edgec.project.spec import CalibrationSpec, EvaluationSpec, ModelSpec, Project
from edgec.quant.recipe import Recipe
from edgec.target.load import load_target
from edgec.verify.records import GateResult

FILES = ("model.onnx", "model.fbgemm.pt", "model.tflite")
Make = Callable[..., BuildResult]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    project = Project(
        model=ModelSpec(path="model.py:Net"),
        calibration=CalibrationSpec(data="c.npz"),
        evaluation=EvaluationSpec(data="e.npz"),
    )
    found = make_plan(load_target("x86-64-vnni-int8", tmp_path), project)
    assert tuple(item.file for item in found.emits) == FILES
    return found


@pytest.fixture
def make(tmp_path: Path, plain_artifact: Artifact) -> Make:
    """A result in which files were built or not, and miss a gate or not."""

    def result(*, unmade: tuple[str, ...] = (), missed: tuple[str, ...] = (), gate: str = "max_drop") -> BuildResult:
        built = [plain_artifact.model_copy(update={"file": file}) for file in FILES if file not in unmade]
        gates = tuple(
            GateResult(
                gate=gate, artifact=item.file, runtime="here", limit=1.0, value=1.5,
                state="failed" if item.file in missed else "met", margin=-0.5, reason="as measured",
            )
            for item in built
        )  # fmt: skip
        prepared: Any = None  # not looked at
        return BuildResult(
            prepared,
            tuple(
                BuiltArtifact(Attempt(Recipe(), "int8", CompiledArtifact(item, tmp_path)), (), (), (), (), False, None)
                for item in built
            ),
            gates,
            tuple(FailedArtifact(file, UnsupportedError("no op", where=f"{file}: conv1")) for file in unmade),
        )

    return result


def test_the_right_ones_and_why_not_the_others_in_the_targets_order(make: Make, plan: Plan) -> None:
    result = make(unmade=("model.tflite",), missed=("model.onnx",))
    assert ending(result, plan, all_or_nothing=False) is None
    right = without_missed(result, plan)
    assert [one.artifact.file for one in right.built] == ["model.fbgemm.pt"]
    assert {gate.artifact for gate in right.gates} == {"model.fbgemm.pt"}
    assert [(item.file, item.state) for item in right.failures] == [
        ("model.onnx", "gates missed"),
        ("model.tflite", "not built"),
    ]
    first, second = (item.gap for item in right.failures)
    assert first.reason == "here: max_drop 1: 1.5, missed by 0.5 (as measured)"
    assert second.reason == "conv1: no op"
    assert str(right.failures[1]) == "NOT BUILT: model.tflite: conv1: no op"


def test_nothing_that_differs_from_build_to_build_is_told(make: Make, plan: Plan) -> None:
    (timed,) = without_missed(make(missed=("model.onnx",), gate="latency_ms"), plan).failures
    assert timed.gap.reason == "here: latency_ms 1: missed, see measurements.json"
    assert "1.5" in str(timed)
    placed = FailedArtifact("model.onnx", UnsupportedError("no op", where="model.onnx: /home/me/net.py:3"))
    assert placed.gap.reason == "no op"


def test_what_ends_a_build_without_a_bundle(make: Make, plan: Plan) -> None:
    assert ending(make(), plan, all_or_nothing=True) is None
    error = ending(make(missed=FILES[:1]), plan, all_or_nothing=True)
    assert isinstance(error, GateError)
    assert "so no bundle was written" in error.what
    error = ending(make(missed=FILES), plan, all_or_nothing=False)
    assert isinstance(error, GateError)
    assert all(file in error.what for file in FILES)
    mixed = make(unmade=FILES[1:], missed=FILES[:1])
    assert ending(mixed, plan, all_or_nothing=False) is mixed.failures[0].error
