"""Recipes in words."""

from __future__ import annotations

import pytest

from edgec.quant.recipe import RANGE_METHODS, Recipe
from edgec.quant.words import words


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        (Recipe(), "min-max ranges"),
        (
            Recipe(calibration="entropy", equalize=True, correct_bias=True, float_layers=("a", "b", "c")),
            "entropy ranges, equalized, biases corrected, 3 layers in float",
        ),
        (
            Recipe(round_adaptively=True, float_layers=("a",)),
            "min-max ranges, weights rounded adaptively, 1 layer in float",
        ),
        (Recipe(calibration="mse", train=True), "MSE ranges, trained"),
        (Recipe(linear="dynamic", smooth=True), "min-max ranges, smoothed, dynamic linear layers"),
        (Recipe(activations="int16"), "min-max ranges, 16-bit activations"),
    ],
)
def test_words(recipe: Recipe, told: str) -> None:
    assert words(recipe) == told


def test_without_ranges() -> None:
    assert words(Recipe(), ranges=False) == "plain"
    assert words(Recipe(round_adaptively=True), ranges=False) == "weights rounded adaptively"


def test_every_field_and_method_changes_the_words() -> None:
    changed = {"calibration": "mse", "float_layers": ("a",), "activations": "int16", "linear": "dynamic"}
    told = {words(Recipe())}
    for name in Recipe.model_fields:
        told.add(words(Recipe().model_copy(update={name: changed.get(name, True)})))
    assert len(told) == len(Recipe.model_fields) + 1
    assert len({words(Recipe(calibration=method)) for method in RANGE_METHODS}) == len(RANGE_METHODS)
