"""Recipes as text, for terminal and reports."""

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
    """A recipe as text: ``entropy ranges, equalized, biases corrected, 3 layers in float``.

    Args:
        recipe: of an artifact.
        ranges: whether the artifact has calibrated ranges at all; those of float and weight-only precisions have none.
    """
    parts = [_RANGES[recipe.calibration]] if ranges else []
    said = (
        (recipe.equalize, "equalized"),
        (recipe.smooth, "smoothed"),
        (recipe.correct_bias, "biases corrected"),
        (recipe.round_adaptively, "weights rounded adaptively"),
        (recipe.train, "trained"),
        (recipe.linear == "dynamic", "dynamic linear layers"),
        (recipe.activations == "int16", "16-bit activations"),
    )
    parts += [text for holds, text in said if holds]
    if count := len(recipe.float_layers):
        parts.append(f"{count} layer{'s' if count > 1 else ''} in float")
    return ", ".join(parts) or "plain"
