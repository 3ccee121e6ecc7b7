"""The records of `edgec analyze`: what each layer loses alone, and what leaving it in float would gain."""

from __future__ import annotations

import math
from typing import Literal

from edgec.backends.interface import LayerFidelity
from edgec.frozen import Frozen
from edgec.quant.recipe import Recipe
from edgec.verify.records import MayBeInfinite, MetricResult


class RecipeScore(Frozen):
    """An artifact of one recipe on the evaluation samples, in its first runtime."""

    sqnr_db: MayBeInfinite | None
    """Of the worst output; None when there is no such artifact."""
    metric: MetricResult | None
    """None when the metric is ``sqnr``, and when there is no such artifact."""
    agreement: float | None
    """Share of samples whose arg-max is the float model's; None when outputs are not class scores."""
    failure: str = ""
    """Why there is no such artifact."""


class LayerSensitivity(Frozen):
    """One layer."""

    layer: str
    op: str
    only: RecipeScore
    """With this layer quantized and all others in float."""
    all_but: RecipeScore
    """With this layer in float and all others quantized."""
    gain_db: MayBeInfinite | None
    """SQNR of `all_but` over that of all layers quantized; None when either is unknown."""


class ArtifactAnalysis(Frozen):
    """One artifact of the target."""

    artifact: str
    backend: str
    runtime: str
    recipe: Recipe
    """With which layers are quantized."""
    quantized: RecipeScore | None = None
    """With all layers quantized; None when `failure`."""
    layers: tuple[LayerSensitivity, ...] = ()
    """The most sensitive first: by SQNR with that layer alone; layers that cannot be quantized alone come last."""
    fidelity: tuple[LayerFidelity, ...] = ()
    """With all layers quantized, each layer's output against the float model's, in execution order."""
    fidelity_failure: str = ""
    """Why there is no `fidelity`."""
    failure: str = ""
    """Why nothing is known of this artifact."""


class Analysis(Frozen):
    """``<target>.analysis.json``: the same inputs on the same machine give the same bytes."""

    kind: Literal["edgec analysis"] = "edgec analysis"
    schema_version: int = 1
    edgec: str
    target: str
    target_digest: str
    model: str
    metric: str
    samples: int
    """Evaluation samples that each cell was measured on."""
    origin: str
    """Where they are from."""
    artifacts: tuple[ArtifactAnalysis, ...]


def gain(all_but: RecipeScore, quantized: RecipeScore) -> float | None:
    """How many dB leaving a layer in float gains; 0 where neither loses anything."""
    if all_but.sqnr_db is None or quantized.sqnr_db is None:
        return None
    if all_but.sqnr_db == quantized.sqnr_db:
        return 0.0
    difference = all_but.sqnr_db - quantized.sqnr_db
    return None if math.isnan(difference) else difference


def most_sensitive_first(layers: list[LayerSensitivity]) -> tuple[LayerSensitivity, ...]:
    """In the order of `ArtifactAnalysis.layers`."""
    return tuple(sorted(layers, key=lambda one: (one.only.sqnr_db is None, one.only.sqnr_db or 0.0)))
