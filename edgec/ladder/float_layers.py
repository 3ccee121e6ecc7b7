"""Which layers lose most in 8 bits: found by halves, in the artifact's real runtime, in few trials.

One comparison of all layers with the float model's gives a first order. Then groups of layers are quantized alone:
noise of independent roundings adds up, so the noise that a group makes alone is its part, and that of one half gives
the other's. The noisiest group is parted again until it is one layer, or trials run out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.errors import EdgecError, StorageError, UnsupportedError, WorkerError
from edgec.ladder.maker import ScoringSamples
from edgec.ladder.steps import Steps
from edgec.ladder.trial import Trial
from edgec.quant.recipe import Recipe

SAMPLES = 16
"""Calibration samples for each trial, which only has to give an order."""
ADDITIVE = 0.1
"""Noise over signal up to which noise adds up: beyond, one layer's may hide in another's."""
NEGLIGIBLE = 0.02
"""Share of all noise below which a group is not parted further."""
HELPS_DB = 3.0
"""What half of the layers in float must gain at least: where their noise adds up, the better half gains as much."""


@dataclass(frozen=True)
class Group:
    """Layers, the worst first by what is known of them, and the noise over signal that they make alone."""

    layers: tuple[str, ...]
    noise: float


@dataclass(frozen=True)
class Ranking:
    """Layers of an artifact in the order in which they should go to float.

    Attributes:
        groups: of them, the noisiest a layer first; the order within the last does not matter.
        quantized: noise over signal of the output with all layers quantized.
    """

    groups: tuple[Group, ...]
    quantized: float

    @property
    def order(self) -> tuple[str, ...]:
        """All layers."""
        return tuple(layer for group in self.groups for layer in group.layers)

    def expected_db(self, count: int) -> float:
        """SQNR to be expected with the first `count` layers in float, in dB."""
        noise, left = 0.0, count
        for group in self.groups:
            stay = max(0, len(group.layers) - left)
            left = max(0, left - len(group.layers))
            noise += group.noise * stay / len(group.layers)
        return math.inf if noise <= 0 else -10 * math.log10(noise)


def most_trials(layers: int) -> int:
    """How many trials a search over so many layers may take in all: 2 log2(n) + 8, rounded down."""
    return int(2 * math.log2(max(layers, 1))) + 8


def attempts_for(layers: int) -> int:
    """How many of them are kept for the gates: one guess, and halving up to half of the layers."""
    return 1 + math.ceil(math.log2(layers // 2 + 1))


def rank_layers(trial: Trial, recipe: Recipe, steps: Steps) -> Ranking:
    """The layers that `recipe` quantizes, in the order of the noise they make.

    Args:
        trial: runs the artifact by any recipe, on calibration samples.
        recipe: whose layers to rank.
        steps: receives each trial; `attempts_for` of its trials are left for the caller.

    Raises:
        UnsupportedError: the backend cannot name layers, nothing can be run, or no half of the layers mends much.
        StorageError: the disk is full.
    """
    return _Search(trial, recipe, steps).run()


class _Search:
    def __init__(self, trial: Trial, recipe: Recipe, steps: Steps) -> None:
        layers = tuple(layer.name for layer in trial.maker.layers(recipe))
        self._all = layers
        self._layers = tuple(name for name in layers if name not in recipe.float_layers)
        if not self._layers or trial.samples is None:
            raise UnsupportedError("its backend cannot name its layers", where=trial.maker.item.file)
        self._trial, self._recipe, self._steps = trial, recipe, steps
        self._few = _few(trial.samples)

    def run(self) -> Ranking:
        quantized = self._noise(self._recipe, "all layers quantized")
        if math.isinf(quantized):
            raise UnsupportedError("its layers cannot be compared: it does not run", where=self._trial.maker.item.file)
        groups = [Group(self._by_comparison(), quantized)]
        if len(self._layers) > 1:
            groups = self._halves(groups[0], measure_both=True)
            best = min(item.noise for item in groups)
            if best > quantized / 10 ** (HELPS_DB / 10):
                gained = 10 * math.log10(quantized / best)
                raise UnsupportedError(
                    f"half of its layers in float gain {max(gained, 0.0):.1f} dB: the error is not of single layers",
                    where=self._trial.maker.item.file,
                )
        reserved = attempts_for(len(self._layers))
        while self._steps.left > reserved:
            worst = max((item for item in groups if len(item.layers) > 1), key=lambda item: item.noise, default=None)
            if worst is None or worst.noise < NEGLIGIBLE * quantized:
                break
            both = worst.noise > ADDITIVE
            if both and self._steps.left < reserved + 2:
                break
            groups.remove(worst)
            groups += self._halves(worst, measure_both=both)
        places = {name: place for place, name in enumerate(self._layers)}
        groups.sort(key=lambda item: (-item.noise / len(item.layers), places[item.layers[0]]))
        return Ranking(tuple(groups), quantized)

    def _halves(self, group: Group, *, measure_both: bool) -> list[Group]:
        middle = (len(group.layers) + 1) // 2
        first, second = group.layers[:middle], group.layers[middle:]
        noise = self._alone(first)
        other = self._alone(second) if measure_both else max(group.noise - noise, 0.0)
        return [Group(first, noise), Group(second, other)]

    def _alone(self, layers: Sequence[str]) -> float:
        """Noise over signal with these layers quantized alone."""
        others = tuple(sorted(set(self._all) - set(layers)))
        subject = layers[0] if len(layers) == 1 else f"{len(layers)} layers"
        # corrections depend on which layers are quantized: they would have to be made anew for each
        alone = self._recipe.model_copy(
            update={"float_layers": others, "correct_bias": False, "round_adaptively": False}
        )
        noise = self._noise(alone, f"only {subject} quantized")
        return 0.0 if math.isinf(noise) else noise  # what cannot be quantized alone comes last

    def _noise(self, recipe: Recipe, subject: str) -> float:
        with self._steps.next(subject):
            score = self._trial.score(recipe, self._few)
        return math.inf if score.sqnr_db is None else 10 ** (-score.sqnr_db / 10)

    def _by_comparison(self) -> tuple[str, ...]:
        """Layers in the order of the noise that each adds to what it is given, as one run of all of them shows."""
        try:
            compared = self._trial.maker.compare_layers(self._recipe)
        except (StorageError, WorkerError):
            raise
        except EdgecError:
            return self._layers
        added: dict[str, float] = {}
        before = 0.0
        for item in compared:
            noise = 10 ** (-max(item.sqnr_db, -100.0) / 10)
            added[item.layer] = noise - before
            before = noise
        return tuple(sorted(self._layers, key=lambda name: -added.get(name, 0.0)))


def _few(samples: ScoringSamples) -> ScoringSamples:
    reference = {name: array[:SAMPLES] for name, array in samples.reference.items()}
    return replace(samples, indices=samples.indices[:SAMPLES], reference=reference)
