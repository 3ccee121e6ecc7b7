"""Recipes that quantize one layer alone, and layers that a target pins to float."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

from edgec.backends.interface import Layer
from edgec.errors import TargetError
from edgec.ladder.trial import Trial
from edgec.quant.recipe import Recipe
from edgec.toml_source import suggest


def pinned(trial: Trial, recipe: Recipe) -> Recipe:
    """`recipe` with the layers in float that the target says stay so (``quantize.float_layers``).

    Raises:
        TargetError: a name or glob there matches no layer.
    """
    patterns = trial.target.quantize.float_layers
    if not patterns:
        return recipe
    names = [layer.name for layer in trial.layers(recipe)]
    found: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise TargetError(
                f'quantize.float_layers: no layer of {trial.item.file} is called "{pattern}"',
                where=trial.target.name,
                hint=suggest(pattern, names) or f"layers: {', '.join(names)}",
            )
        found.update(matching)
    return recipe.model_copy(update={"float_layers": tuple(sorted(found))})


def one_at_a_time(layers: Sequence[Layer], recipe: Recipe) -> Iterator[tuple[Layer, Recipe]]:
    """For each layer that `recipe` quantizes, the recipe that quantizes it alone."""
    names = [layer.name for layer in layers]
    layers = [layer for layer in layers if layer.name not in recipe.float_layers]
    # corrections depend on which layers are quantized: they would have to be made anew for each
    recipe = recipe.model_copy(update={"correct_bias": False, "round_adaptively": False})
    for layer in layers:
        others = tuple(sorted(name for name in names if name != layer.name))
        yield layer, recipe.model_copy(update={"float_layers": others})
