"""Which rungs are climbed, in which order, and what each compares."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from edgec.plan.rungs import candidates, first_recipe, place_dynamic_linear, reason_against, rungs
from edgec.quant.recipe import RANGE_METHODS, Effort, Recipe, RungName
from edgec.target.load import load_target
from edgec.target.spec import Precision, QuantSpec, Target

CORRECTED = ["corrections", "adaptive-rounding"]
LINEAR = ["corrections", "dynamic-linear", "adaptive-rounding"]
MIXED = ["mixed-precision", "int16-activations"]
STATIC: dict[Effort, list[str]] = {
    "fast": ["min-max", "calibration", *LINEAR, *MIXED],
    "balanced": ["calibration", *LINEAR, *MIXED],
    "max": ["calibration", "dynamic-linear", *MIXED],
}


def target(precision: Precision = "int8", **quantize: str) -> Target:
    resolved = load_target("x86-64-vnni-int8", Path("nowhere")).target
    return resolved.model_copy(update={"precision": precision, "quantize": QuantSpec.model_validate(quantize)})


@pytest.mark.parametrize("effort", get_args(Effort))
@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_rungs_of_every_kind_of_build(precision: Precision, effort: Effort, calibrated: bool, trainable: bool) -> None:
    found = rungs(target(precision), effort, calibrated=calibrated, trainable=trainable)
    training = ["training"] if trainable else []
    expected = ["min-max"]
    if precision == "int8":
        expected = STATIC[effort] + training
    elif precision in ("int8-weight-only", "int4-weight-only"):
        expected += (CORRECTED if calibrated else []) + training
    names = [rung.name for rung in found]
    assert names == expected
    order = get_args(RungName)
    assert [order.index(name) for name in names] == sorted(order.index(name) for name in names)


def test_models_that_attend_begin_with_dynamic_linear_layers() -> None:
    ladder = rungs(target(), "balanced", calibrated=True, trainable=True)
    found = place_dynamic_linear(ladder, "first")
    assert found[0].name == "dynamic-linear"
    assert [rung for rung in ladder if rung is not found[0]] == list(found[1:])
    recipes = candidates(found[0].stages[0], Recipe())
    assert recipes == (Recipe(), Recipe(linear="dynamic"), Recipe(linear="dynamic", smooth=True))
    assert reason_against(recipes[-1], "int8", target(), ladder) == ""
    assert place_dynamic_linear(ladder, "later") == ladder
    assert place_dynamic_linear(ladder, "never") == found[1:]


def test_candidates_begin_with_the_best_so_far_and_repeat_none() -> None:
    best = Recipe(calibration="mse", equalize=True)
    (rung,) = (item for item in rungs(target(), "fast", calibrated=True, trainable=False) if item.name == "corrections")
    found = candidates(rung.stages[0], best)
    assert found == (best, *(best.model_copy(update={key: True}) for key in ("correct_bias", "smooth")))
    assert candidates(rung.stages[0], Recipe())[0] == Recipe()
    assert len(candidates(rung.stages[0], Recipe())) == 5
    (ranges,) = rungs(target(), "fast", calibrated=True, trainable=False)[1].stages
    assert {item.calibration for item in candidates(ranges, Recipe())} == set(RANGE_METHODS)


@pytest.mark.parametrize("precision", ["int8-weight-only", "int4-weight-only"])
def test_biases_are_corrected_only_for_weights_that_stay_on_the_grid(precision: Precision) -> None:
    found = rungs(target(precision), "max", calibrated=True, trainable=True)
    varied = [variation for rung in found for stage in rung.stages for variation in stage]
    assert {"equalize": True} in varied
    assert all(variation.get("round_adaptively") for variation in varied if variation.get("correct_bias"))


def test_a_stated_calibration_method_is_kept_by_all_rungs() -> None:
    stated = target(calibration="entropy")
    assert first_recipe(stated) == Recipe(calibration="entropy")
    assert first_recipe(target()) == Recipe(calibration="minmax")
    for effort in get_args(Effort):
        found = rungs(stated, effort, calibrated=True, trainable=True)
        varied = [variation for rung in found for stage in rung.stages for variation in stage]
        assert varied
        assert not any("calibration" in variation for variation in varied)
        assert all("calibration" not in rung.base for rung in found)
    assert "calibration" not in [rung.name for rung in rungs(stated, "fast", calibrated=True, trainable=False)]


def test_trained_models_are_not_corrected_again() -> None:
    rung = rungs(target(), "max", calibrated=True, trainable=True)[-1]
    corrected = Recipe(equalize=True, smooth=True, correct_bias=True, round_adaptively=True, calibration="mse")
    assert corrected.model_copy(update=rung.base) == Recipe(calibration="mse", train=True)


FLOAT_LAYERS = Recipe(float_layers=("a",))


@pytest.mark.parametrize(
    ("precision", "effort", "recipe", "named"),
    [
        ("fp32", "balanced", FLOAT_LAYERS, '{"float_layers":["a"]}'),
        ("fp16", "balanced", Recipe(equalize=True), '{"equalize":true}'),
        ("int8-dynamic", "max", Recipe(calibration="mse"), '{"calibration":"mse"}'),
        ("int8-weight-only", "fast", FLOAT_LAYERS, '{"float_layers":["a"]}'),
        ("int8-weight-only", "fast", Recipe(equalize=True), ""),
        ("int8", "balanced", Recipe(train=True), '{"train":true}'),
        ("int8", "balanced", Recipe(calibration="mse", correct_bias=True, float_layers=("a",)), ""),
        ("int8", "max", Recipe(round_adaptively=True, activations="int16"), ""),
    ],
)
def test_recipes_that_no_rung_comes_to_are_known(
    precision: Precision, effort: Effort, recipe: Recipe, named: str
) -> None:
    asked = target(precision)
    ladder = rungs(asked, effort, calibrated=True, trainable=False)
    assert reason_against(first_recipe(asked), precision, asked, ladder) == ""
    found = reason_against(recipe, precision, asked, ladder)
    assert found == (f"recipe: no {precision} artifact that is searched for here has {named}" if named else "")


def test_a_fallback_has_no_recipe_and_only_a_stated_one_is_there() -> None:
    asked = target("int8", fallback="fp16", calibration="entropy")
    ladder = rungs(asked, "balanced", calibrated=True, trainable=True)
    assert reason_against(Recipe(), "fp16", asked, ladder) == ""
    assert "equalize" in reason_against(Recipe(equalize=True), "fp16", asked, ladder)
    assert "has no fp32 artifacts" in reason_against(Recipe(), "fp32", asked, ladder)
    assert reason_against(Recipe(calibration="entropy", train=True), "int8", asked, ladder) == ""
    assert '{"calibration":"mse"}' in reason_against(Recipe(calibration="mse"), "int8", asked, ladder)
