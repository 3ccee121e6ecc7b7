"""What a kept result depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgec.errors import WorkerError
from edgec.frozen import Frozen
from edgec.ladder.results import RecipeResults, identify
from edgec.machine import Isa
from edgec.passes.contract import PassRecord
from edgec.plan import identity
from edgec.plan.context import BuildContext
from edgec.plan.plan import Plan, make_plan
from edgec.project.spec import CalibrationSpec, EvaluationSpec, ModelSpec, Project
from edgec.quant.recipe import Recipe
from edgec.storage.cache import Cache, code_digest
from edgec.target.load import load_target


class Number(Frozen):
    """A result."""

    value: int


class Counted:
    """Gives 1, 2, 3, ..."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> Number:
        self.count += 1
        return Number(value=self.count)


def test_equal_questions_are_answered_once(tmp_path: Path) -> None:
    compute = Counted()
    for _ in range(3):
        results = RecipeResults(Cache(tmp_path), "identity")
        found = results.get("score", Recipe(), Number, compute, samples=("digest", range(3)), metric="m")
        assert found.value == 1
    assert compute.count == 1


@pytest.mark.parametrize(
    "other",
    [
        {"what": "analysis"},
        {"recipe": Recipe(equalize=True)},
        {"recipe": Recipe(float_layers=("a",))},
        {"samples": ("other", (0, 1, 2))},
        {"samples": ("digest", (0, 1, 3))},
        {"samples": None},
        {"metric": "n"},
        {"identity": "another"},
    ],
)
def test_another_question_has_another_answer(tmp_path: Path, other: dict[str, Any]) -> None:
    compute = Counted()
    plain: dict[str, Any] = {"what": "score", "recipe": Recipe(), "samples": ("digest", (0, 1, 2)), "metric": "m"}
    for given in (plain, plain | other):
        given = dict(given)
        results = RecipeResults(Cache(tmp_path), given.pop("identity", "identity"))
        results.get(given.pop("what"), given.pop("recipe"), Number, compute, **given)
    assert compute.count == 2


def test_what_was_trained_or_failed_is_not_kept(tmp_path: Path) -> None:
    results, compute = RecipeResults(Cache(tmp_path), "identity"), Counted()
    trained = Recipe(train=True)
    assert [results.get("score", trained, Number, compute).value for _ in range(2)] == [1, 2]

    def crash() -> Number:
        raise WorkerError("killed")

    for _ in range(2):
        with pytest.raises(WorkerError):
            results.get("score", Recipe(), Number, crash)
    assert results.get("score", Recipe(), Number, compute).value == 3


def test_an_identity_changes_with_everything_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(before: str, after: str) -> PassRecord:
        return PassRecord(name="p", options={}, state="changed", summary="", seconds=0.0, before=before, after=after)

    def context(plan: Plan, *, seed: int = 0, threads: int = 1) -> BuildContext:
        build = plan.project.build.model_copy(update={"seed": seed})
        plan = replace(plan, project=plan.project.model_copy(update={"build": build}))
        return BuildContext(plan, tmp_path, tmp_path, tmp_path, Cache(tmp_path), Cache(tmp_path), tmp_path, threads, 1)

    project = Project(
        model=ModelSpec(path="model.py:Net"),
        calibration=CalibrationSpec(data="c.npz"),
        evaluation=EvaluationSpec(data="e.npz"),
    )
    one, other = (make_plan(load_target(name, tmp_path), project) for name in ("rpi4-int8", "x86-64-int8"))
    steps = [step("1", "2"), step("2", "3")]
    first = identify(context(one), one.emits[0], steps, None)
    assert identify(context(one), one.emits[0], steps, None) == first
    identities = {
        first,
        identify(context(other), one.emits[0], steps, None),
        identify(context(one), one.emits[1], steps, None),
        identify(context(one), one.emits[0], [step("0", "2"), step("2", "3")], None),
        identify(context(one), one.emits[0], [step("1", "2"), step("2", "4")], None),
        identify(context(one, seed=1), one.emits[0], steps, None),
        identify(context(one, threads=2), one.emits[0], steps, None),
    }
    monkeypatch.setattr(identity, "host_kernels", lambda: Isa(arch="aarch64", features=("asimd",), torch=""))
    identities.add(identify(context(one), one.emits[0], steps, None))
    assert len(identities) == 8


def test_code_is_known_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "digested_package"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner" / "part.py").write_text("A = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = set()
    for text in ("A = 1", "A = 2"):
        (package / "inner" / "part.py").write_text(text)
        code_digest.cache_clear()
        found.add(code_digest("digested_package"))
    (package / "data.txt").write_text("no code")
    code_digest.cache_clear()
    assert code_digest("digested_package") in found
    assert code_digest("digested_package.inner.part") not in found  # a module alone, as a backend of one file
    assert len(found) == 2
