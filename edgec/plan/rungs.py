"""The rungs of the accuracy ladder as values, cheapest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from edgec.frozen import canonical_json
from edgec.passes.arithmetic import DynamicLinearPlace
from edgec.quant.recipe import RANGE_METHODS, Effort, Recipe, RungName
from edgec.target.spec import WEIGHT_ONLY, Precision, Target

LOCKED, FALLBACK = "locked", "fallback"
"""How what is tried before and after all rungs is recorded."""
Variation = dict[str, bool | str]
"""Fields of a recipe that a candidate changes."""

_CORRECTIONS: tuple[Variation, ...] = (
    {"correct_bias": True},
    {"equalize": True},
    {"equalize": True, "correct_bias": True},
    {"smooth": True},
)
_BLOCKWISE: tuple[Variation, ...] = ({"equalize": True},)
"""Corrections where weights are stored with a scale for each block: a bias corrected for a scale for each channel, the
grid that is known here, is wrong for them. Weights that adaptive rounding has placed are on that grid, and stay there.
"""
_ROUNDING: tuple[Variation, ...] = (
    {"round_adaptively": True, "correct_bias": True},
    {"equalize": True, "round_adaptively": True, "correct_bias": True},
)
_TRAINED: Variation = {
    "train": True,
    "equalize": False,
    "smooth": False,
    "correct_bias": False,
    "round_adaptively": False,
}
"""Trained weights are on the grid already, and biases fit them."""


@dataclass(frozen=True)
class Rung:
    """Candidates that are compared on calibration samples; the nearest to the float model goes before the gates.

    ``mixed-precision`` has no candidates of its own: they follow from the layers' sensitivity.
    """

    name: RungName
    base: Variation = field(default_factory=dict)
    """What it changes of the best recipe so far without comparing: too slow to make only to find out."""
    stages: tuple[tuple[Variation, ...], ...] = ()
    """What candidates change of the best recipe so far; each stage builds on the best of the one before."""


_LINEAR = Rung("dynamic-linear", stages=(({"linear": "dynamic"}, {"linear": "dynamic", "smooth": True}),))


def place_dynamic_linear(ladder: Sequence[Rung], place: DynamicLinearPlace) -> tuple[Rung, ...]:
    """The same rungs, `dynamic-linear` before all others, where it is or left out."""
    if place == "never":
        return tuple(rung for rung in ladder if rung.name != _LINEAR.name)
    return tuple(sorted(ladder, key=lambda rung: rung.name != _LINEAR.name)) if place == "first" else tuple(ladder)


def candidates(variations: Sequence[Variation], best: Recipe) -> tuple[Recipe, ...]:
    """The recipes of one stage: `best`, so that a stage never makes it worse, and its variations."""
    varied = (best.model_copy(update=variation) for variation in variations)
    return tuple(dict.fromkeys((best, *varied)))


def first_recipe(target: Target) -> Recipe:
    """The cheapest recipe that a target allows."""
    method = target.quantize.calibration
    return Recipe(calibration="minmax" if method == "auto" else method)


def reason_against(recipe: Recipe, precision: Precision, target: Target, ladder: Sequence[Rung]) -> str:
    """Why no climb of `ladder` results in this; empty when one may.

    Args:
        recipe: what an artifact was said to be made with.
        precision: the target's, or that of its fallback.
        target: what is built.
        ladder: its rungs.
    """
    ways: list[str] = []
    if precision == target.precision:
        free = {key for rung in ladder for step in ((rung.base,), *rung.stages) for change in step for key in change}
        free |= {"float_layers"} if any(rung.name == "mixed-precision" for rung in ladder) else set()
        ways.append(_beyond(recipe, first_recipe(target), free))
    if precision == target.quantize.fallback:
        ways.append(_beyond(recipe, Recipe(), frozenset()))
    if not ways:
        return f"precision: {target.name} has no {precision} artifacts"
    return "" if "" in ways else f"recipe: no {precision} artifact that is searched for here has {ways[0]}"


def _beyond(recipe: Recipe, first: Recipe, free: Collection[str]) -> str:
    """Fields of a recipe that are neither free nor as in the `first` one, as JSON; empty when there are none."""
    stated, plain = recipe.plain(), first.plain()
    other = {key: value for key, value in stated.items() if key not in free and value != plain[key]}
    return canonical_json(other) if other else ""


def rungs(target: Target, effort: Effort, *, calibrated: bool, trainable: bool) -> tuple[Rung, ...]:
    """What to climb for an artifact of `target`.

    ``fast`` tries each rung only when the one before it missed a gate, beginning with min-max ranges; ``balanced``
    begins with the best of all calibration methods, with biases corrected where that helps; ``max`` with the best of
    everything that needs no training.

    Args:
        target: its precision decides which rungs there are; a stated calibration method is kept.
        effort: how much to try before the first gate.
        calibrated: whether the project has calibration data, which weight-only precisions can do without.
        trainable: whether the project has training data.
    """
    if target.precision in ("fp32", "fp16", "int8-dynamic"):
        return (Rung("min-max"),)
    free = target.quantize.calibration == "auto"
    methods: tuple[Variation, ...] = tuple({"calibration": method} for method in RANGE_METHODS) if free else ()
    corrections = _BLOCKWISE if target.precision in WEIGHT_ONLY else _CORRECTIONS
    later: tuple[Rung, ...] = (
        Rung("corrections", stages=(corrections,)),
        Rung("adaptive-rounding", stages=(_ROUNDING,)),
    )
    ranges = (methods,) if target.precision == "int8" else ()
    training = (Rung("training", _TRAINED, ranges),) if trainable else ()
    if target.precision in WEIGHT_ONLY:
        return (Rung("min-max"), *(later if calibrated else ()), *training)
    if target.precision == "int8":
        later = (later[0], _LINEAR, later[1])
    mixed = (Rung("mixed-precision"), Rung("int16-activations", {"activations": "int16"}))
    if effort == "fast":
        calibration = (Rung("calibration", stages=ranges),) if free else ()
        return (Rung("min-max"), *calibration, *later, *mixed, *training)
    # shifted means hide which ranges are best: biases are corrected before methods are compared
    if effort == "balanced":
        return (Rung("calibration", stages=(({"correct_bias": True},), *ranges)), *later, *mixed, *training)
    everything = (_CORRECTIONS, *ranges, _ROUNDING)
    return (Rung("calibration", stages=everything), _LINEAR, *mixed, *training)
