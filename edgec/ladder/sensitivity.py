"""Which layers lose most when they are quantized: one at a time, in the artifact's real runtime."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgec.backend.protocol import Layer
from edgec.errors import TargetError, UnsupportedError
from edgec.ladder.trial import Trial
from edgec.quant.recipe import Recipe
from edgec.toml_source import suggest

SAMPLES = 16
"""Calibration samples for each layer when the ladder only needs an order."""


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


def most_sensitive_first(trial: Trial, recipe: Recipe) -> tuple[str, ...]:
    """Names of the layers, in the order of the SQNR of the model's outputs with that layer alone quantized.

    Layers that cannot be quantized alone come last.

    Raises:
        UnsupportedError: the backend tells no layers apart.
    """
    layers = trial.layers(recipe)
    if not layers or trial.scoring is None:
        raise UnsupportedError("it has no layers that can be told apart", where=trial.item.file)
    scoring = trial.scoring
    few = replace(
        scoring,
        indices=scoring.indices[:SAMPLES],
        reference={name: array[:SAMPLES] for name, array in scoring.reference.items()},
    )
    found: list[tuple[float, int, str]] = []
    for number, (layer, alone) in enumerate(one_at_a_time(layers, recipe)):
        trial.progress(f"sensitivity of {layer.name} ({number + 1} of {len(layers)})")
        score = trial.score(alone, few)
        found.append((float("inf") if score.sqnr_db is None else score.sqnr_db, number, layer.name))
    return tuple(name for _, _, name in sorted(found))
