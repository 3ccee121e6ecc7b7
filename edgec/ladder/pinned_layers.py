"""Layers that a target keeps in float (``quantize.float_layers``)."""

from __future__ import annotations

import fnmatch

from edgec.errors import TargetError
from edgec.ladder.maker import ArtifactMaker
from edgec.quant.recipe import Recipe
from edgec.toml_source import suggest


def with_pinned_layers(maker: ArtifactMaker, recipe: Recipe) -> Recipe:
    """`recipe` with the layers in float that the target says stay so.

    Raises:
        TargetError: a name or glob there matches no layer.
    """
    patterns = maker.target.quantize.float_layers
    if not patterns:
        return recipe
    names = [layer.name for layer in maker.layers(recipe)]
    pinned: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise TargetError(
                f'quantize.float_layers: no layer of {maker.item.file} is called "{pattern}"',
                where=maker.target.name,
                hint=suggest(pattern, names) or f"layers: {', '.join(names)}",
            )
        pinned.update(matching)
    return recipe.model_copy(update={"float_layers": tuple(sorted(pinned))})
