"""The passes of a recipe on the float model, before any backend sees it."""

from __future__ import annotations

from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass
from edgec.passes.correct_bias import CorrectBias
from edgec.passes.equalize_cross_layer import EqualizeCrossLayer
from edgec.passes.round_adaptively import RoundAdaptively
from edgec.passes.smooth_scales import SmoothScales
from edgec.quant.recipe import Recipe, WeightGrid


def float_corrections(recipe: Recipe, grid: WeightGrid) -> tuple[Pass[FloatModel], ...]:
    """The passes of `recipe`, in order, to be run after the portable ones.

    Args:
        recipe: its `float_layers` must be module paths of the graph.
        grid: the backend's.
    """
    passes: tuple[Pass[FloatModel], ...] = ()
    if recipe.smooth:
        passes += (SmoothScales(grid, dynamic=recipe.linear == "dynamic"),)
    if recipe.equalize:
        passes += (EqualizeCrossLayer(),)
    if recipe.round_adaptively:
        # biases that are right for rounding to nearest are wrong for this: it has to correct them itself
        return (*passes, RoundAdaptively(grid, correct_bias=recipe.correct_bias, float_layers=recipe.float_layers))
    return (*passes, CorrectBias(grid, float_layers=recipe.float_layers)) if recipe.correct_bias else passes
