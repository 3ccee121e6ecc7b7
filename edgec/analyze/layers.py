"""The analysis of one artifact: each layer quantized alone, and all layers but one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import RLock

from edgec.analyze.records import ArtifactAnalysis, LayerSensitivity, RecipeScore, gain, most_sensitive_first
from edgec.backends.interface import Layer, LayerFidelity
from edgec.backends.registry import require_packages
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, ProjectError, StorageError, TargetError, UnsupportedError, WorkerError
from edgec.frozen import Frozen
from edgec.ladder.maker import ArtifactMaker, ScoringSamples
from edgec.ladder.pinned_layers import with_pinned_layers
from edgec.ladder.steps import Steps
from edgec.quant.recipe import Recipe
from edgec.verify.fidelity import compare_outputs
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.workers.worker import Progress


@dataclass(frozen=True)
class Evaluation:
    """What recipes are measured with."""

    samples: Spool
    reference: Callable[[], Outputs]
    """The float model's outputs, computed at the first call; from any thread."""
    metric: Metric
    metric_digest: str
    """Of what `metric` computes."""
    lock: RLock
    """Held while the user's metric runs, which is not for several threads."""


class _Fidelity(Frozen):
    """How near each layer is to the float model's, or why that is not known."""

    layers: tuple[LayerFidelity, ...] = ()
    failure: str = ""


class LayerAnalyzer:
    """Measures recipes of one artifact, or takes the measurements from the cache.

    Args:
        maker: makes and runs the artifact by any recipe; closed at the end.
        evaluation: samples, reference and metric.
        progress: receives each measurement, with counts and the time left.
    """

    def __init__(self, maker: ArtifactMaker, evaluation: Evaluation, progress: Progress) -> None:
        self._maker, self._evaluation, self._progress = maker, evaluation, progress
        self._runtime = maker.item.runtimes[0].name

    def stop(self) -> None:
        """End the process, from another thread; `analysis` then raises `StoppedError`."""
        self._maker.stop()

    def analysis(self, recipe: Recipe) -> tuple[ArtifactAnalysis, EdgecError | None]:
        """The analysis of the artifact, and the error that ended it, if any.

        Args:
            recipe: with which layers are quantized; those that the target pins stay in float with all others.

        Raises:
            ProjectError: the user's metric fails.
            TargetError: the target pins a layer that is not there.
            StorageError: the disk is full.
        """
        item = self._maker.item
        empty = ArtifactAnalysis(artifact=item.file, backend=item.backend.name, runtime=self._runtime, recipe=recipe)
        with self._maker:
            try:
                require_packages(item.backend, self._maker.target.precision)
                return self._analysis(empty, recipe), None
            except (StorageError, ProjectError, TargetError):
                raise
            except EdgecError as error:
                return empty.model_copy(update={"failure": str(error)}), error

    def _analysis(self, empty: ArtifactAnalysis, recipe: Recipe) -> ArtifactAnalysis:
        layers = self._maker.layers(recipe)
        if not layers:
            raise UnsupportedError("its backend cannot name its layers", where=self._maker.item.file)
        free, recipe = recipe, with_pinned_layers(self._maker, recipe)
        steps = Steps(self._progress, total=2 * len(layers) + 1)

        def score(one: Recipe, subject: str) -> RecipeScore:
            with steps.next(subject):
                return self._score(one)

        quantized = score(recipe, "all layers in int8")
        rows = []
        for layer, alone in one_at_a_time(layers, free):
            others = tuple(sorted({*recipe.float_layers, layer.name}))
            only = score(alone, f"only {layer.name}")
            all_but = score(recipe.model_copy(update={"float_layers": others}), f"all but {layer.name}")
            gained = gain(all_but, quantized)
            rows.append(LayerSensitivity(layer=layer.name, op=layer.op, only=only, all_but=all_but, gain_db=gained))
        fidelity, failure = ((), quantized.failure) if quantized.failure else self._fidelity(recipe)
        return empty.model_copy(
            update={
                "recipe": recipe,
                "quantized": quantized,
                "layers": most_sensitive_first(rows),
                "fidelity": fidelity,
                "fidelity_failure": failure,
            }
        )

    def _score(self, recipe: Recipe) -> RecipeScore:
        spool = self._evaluation.samples
        try:
            return self._maker.results.get(
                "analysis",
                recipe,
                RecipeScore,
                lambda: self._measured(recipe),
                samples=(spool.info.content_digest, range(len(spool))),
                metric=self._evaluation.metric_digest,
            )
        except WorkerError as error:  # not kept: it may come out otherwise next time
            return _no_artifact(error.what)

    def _measured(self, recipe: Recipe) -> RecipeScore:
        if reasons := self._maker.reasons_against(recipe):
            return _no_artifact("; ".join(reasons))
        evaluation = self._evaluation
        reference = evaluation.reference()
        samples = ScoringSamples(evaluation.samples, range(len(evaluation.samples)), reference)
        outputs, failure = self._maker.run(recipe, samples, self._runtime)
        if failure:
            return _no_artifact(failure)
        if other := [name for name, wanted in reference.items() if outputs[name].shape != wanted.shape]:
            return _no_artifact(f"output {', '.join(other)} has another shape than the float model's")
        agreement = evaluation.metric.agreement(reference, outputs)
        with evaluation.lock:
            metric = evaluation.metric.compare(reference, outputs)
        return RecipeScore(
            sqnr_db=min(item.sqnr_db for item in compare_outputs(reference, outputs)),
            metric=metric,
            agreement=None if agreement is None else float(agreement.mean()),
        )

    def _fidelity(self, recipe: Recipe) -> tuple[tuple[LayerFidelity, ...], str]:
        def compute() -> _Fidelity:
            self._progress("compare layers")
            try:
                return _Fidelity(layers=self._maker.compare_layers(recipe))
            except (WorkerError, StorageError):
                raise
            except EdgecError as error:
                return _Fidelity(failure=error.what)

        try:
            value = self._maker.results.get("fidelity", recipe, _Fidelity, compute)
        except WorkerError as error:
            return (), error.what
        return value.layers, value.failure


def _no_artifact(why: str) -> RecipeScore:
    return RecipeScore(sqnr_db=None, metric=None, agreement=None, failure=why)


def one_at_a_time(layers: Sequence[Layer], recipe: Recipe) -> Iterator[tuple[Layer, Recipe]]:
    """For each layer that `recipe` quantizes, the recipe that quantizes it alone."""
    names = [layer.name for layer in layers]
    # corrections depend on which layers are quantized: they would have to be made anew for each
    recipe = recipe.model_copy(update={"correct_bias": False, "round_adaptively": False})
    for layer in layers:
        if layer.name not in recipe.float_layers:
            others = tuple(sorted(name for name in names if name != layer.name))
            yield layer, recipe.model_copy(update={"float_layers": others})
