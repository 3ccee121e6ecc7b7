"""The rungs of the accuracy ladder as values, cheapest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.quant.recipe import RANGE_METHODS, Effort, RangeMethod, Recipe, RungName
from edgec.target.spec import Precision, Target

LOCKED, FALLBACK = "locked", "fallback"
"""How what is tried before and after all rungs is recorded."""

Variation = dict[str, bool | RangeMethod | str]
"""Fields of a recipe that a candidate changes."""

_CORRECTIONS: tuple[Variation, ...] = (
    {"correct_bias": True},
    {"equalize": True},
    {"equalize": True, "correct_bias": True},
)
_ROUNDING: tuple[Variation, ...] = (
    {"round_adaptively": True, "correct_bias": True},
    {"equalize": True, "round_adaptively": True, "correct_bias": True},
)


@dataclass(frozen=True)
class Rung:
    """Candidates that are compared on calibration samples; the nearest to the float model goes before the gates.

    ``mixed-precision`` has no candidates of its own: they follow from the layers' sensitivity.
    """

    name: RungName
    variations: tuple[Variation, ...] = ({},)
    """What each candidate changes of the best recipe so far."""
    builds_on_best: bool = True
    """Whether the best recipe so far is one of the candidates, so that a rung never makes it worse."""

    def candidates(self, best: Recipe) -> tuple[Recipe, ...]:
        """The recipes to compare, `best` first where the rung builds on it."""
        found = [best] if self.builds_on_best else []
        found += [best.model_copy(update=variation) for variation in self.variations]
        return tuple(dict.fromkeys(found))


def first_recipe(target: Target) -> Recipe:
    """The cheapest recipe that a target allows."""
    method = target.quantize.calibration
    return Recipe(calibration="minmax" if method == "auto" else method)


def rungs(target: Target, effort: Effort, *, trainable: bool) -> tuple[Rung, ...]:
    """What to climb for an artifact of `target`.

    ``fast`` tries each rung only when the one before it missed a gate, beginning with min-max ranges; ``balanced``
    begins with the best of all calibration methods; ``max`` with the best of everything that needs no training.

    Args:
        target: its precision decides which rungs there are; a stated calibration method is kept.
        effort: how much to try before the first gate.
        trainable: whether the project has training data.
    """
    precision: Precision = target.precision
    if precision in ("fp32", "fp16", "int8-dynamic"):
        return (Rung("min-max", builds_on_best=False),)
    free = target.quantize.calibration == "auto" and precision == "int8"
    methods: Sequence[RangeMethod] = RANGE_METHODS if free else (first_recipe(target).calibration,)
    calibration: tuple[Variation, ...] = tuple({"calibration": method} for method in methods)
    found = [Rung("min-max", builds_on_best=False)]
    if free:
        found.append(Rung("calibration", calibration))
    found += [Rung("corrections", _CORRECTIONS), Rung("adaptive-rounding", _ROUNDING)]
    if effort == "balanced" and free:
        del found[0]
    if effort == "max":
        everything = tuple({**one, **other} for one in calibration for other in ({}, *_CORRECTIONS))
        found = [Rung("calibration", everything), Rung("adaptive-rounding", _ROUNDING)]
    if precision == "int8":
        found += [Rung("mixed-precision"), Rung("int16-activations", ({"activations": "int16"},), False)]
    if trainable:
        found.append(Rung("training", ({"train": True},), False))
    return tuple(found)
