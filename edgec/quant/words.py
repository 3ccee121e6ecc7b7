"""Recipes in words, for terminal and reports."""

from __future__ import annotations

from edgec.quant.recipe import RangeMethod, Recipe

_RANGES: dict[RangeMethod, str] = {
    "minmax": "min-max ranges",
    "moving-average": "moving-average ranges",
    "percentile": "percentile ranges",
    "entropy": "entropy ranges",
    "mse": "MSE ranges",
}


def words(recipe: Recipe, *, ranges: bool = True) -> str:
    """A recipe as people say it: ``entropy ranges, equalized, biases corrected, 3 layers in float``.

    Args:
        recipe: what to tell.
        ranges: whether the artifact has calibrated ranges at all; those of float and weight-only precisions have none.
    """
    told = [_RANGES[recipe.calibration]] if ranges else []
    if recipe.equalize:
        told.append("equalized")
    if recipe.smooth:
        told.append("smoothed")
    if recipe.correct_bias:
        told.append("biases corrected")
    if recipe.round_adaptively:
        told.append("weights rounded adaptively")
    if recipe.train:
        told.append("trained")
    if recipe.linear == "dynamic":
        told.append("dynamic linear layers")
    if recipe.activations == "int16":
        told.append("16-bit activations")
    if count := len(recipe.float_layers):
        told.append(f"{count} layer{'s' if count > 1 else ''} in float")
    return ", ".join(told) or "plain"
