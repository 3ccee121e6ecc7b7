"""All cells of one artifact that `edgec analyze` shows: each layer quantized alone, and all layers but one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import Any

from edgec.analyze.records import ArtifactAnalysis, CellScore, LayerSensitivity, gain, most_sensitive_first
from edgec.backends.interface import LayerFidelity
from edgec.backends.registry import require_packages
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, ProjectError, StorageError, TargetError, UnsupportedError, WorkerError
from edgec.ladder.cells import Cells
from edgec.ladder.sensitivity import one_at_a_time, pinned
from edgec.ladder.steps import Steps
from edgec.ladder.trial import Scoring, Trial
from edgec.quant.recipe import Recipe
from edgec.verify.fidelity import compare_outputs
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs


@dataclass(frozen=True)
class Yardstick:
    """What cells are measured against."""

    evaluation: Spool
    reference: Callable[[], Outputs]
    """The float model's outputs, computed at the first call; from any thread."""
    metric: Metric
    metric_digest: str
    """Of what `metric` computes."""
    lock: RLock
    """Held while the user's metric runs, which is not for several threads."""


class LayerCells:
    """Cells of one artifact, from the cache where they are there.

    Args:
        trial: makes and runs the artifact by any recipe; closed at the end.
        cells: what earlier runs have left.
        yardstick: what to measure against.
        progress: told each cell, with counts and the time left.
    """

    def __init__(self, trial: Trial, cells: Cells, yardstick: Yardstick, progress: Callable[[str], None]) -> None:
        self._trial, self._cells, self._yardstick = trial, cells, yardstick
        self._progress = progress

    def stop(self) -> None:
        """End the process, from another thread; `analysis` then raises `TrialStoppedError`."""
        self._trial.stop()

    def analysis(self, recipe: Recipe) -> tuple[ArtifactAnalysis, EdgecError | None]:
        """Everything about the artifact, and why nothing could be found out.

        Args:
            recipe: with which layers are quantized; those that the target pins stay in float with all others.

        Raises:
            ProjectError: the user's metric fails.
            TargetError: the target pins a layer that is not there.
            StorageError: the disk is full.
        """
        item = self._trial.item
        empty = ArtifactAnalysis(
            artifact=item.file, backend=item.backend.name, runtime=item.runtimes[0].name, recipe=recipe
        )
        with self._trial:
            try:
                require_packages(item.backend, self._trial.target.precision)
                return self._analysis(empty, recipe), None
            except (StorageError, ProjectError, TargetError):
                raise
            except EdgecError as error:
                return empty.model_copy(update={"failure": str(error)}), error

    def _analysis(self, empty: ArtifactAnalysis, recipe: Recipe) -> ArtifactAnalysis:
        layers = self._trial.layers(recipe)
        if not layers:
            raise UnsupportedError("it has no layers that can be told apart", where=self._trial.item.file)
        free, recipe = recipe, pinned(self._trial, recipe)
        steps = Steps(self._progress, total=2 * len(layers) + 1)

        def score(one: Recipe, subject: str) -> CellScore:
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

    def _score(self, recipe: Recipe) -> CellScore:
        spool = self._yardstick.evaluation
        try:
            value = self._cells.kept(
                "analysis",
                recipe,
                lambda: self._measured(recipe).model_dump(mode="json"),
                samples=(spool.info.content_digest, range(len(spool))),
                metric=self._yardstick.metric_digest,
            )
        except WorkerError as error:  # not kept: it may come out otherwise next time
            return _no_artifact(error.what)
        return CellScore.model_validate_json(json.dumps(value))

    def _measured(self, recipe: Recipe) -> CellScore:
        if reasons := self._trial.reasons_against(recipe):
            return _no_artifact("; ".join(reasons))
        yardstick = self._yardstick
        reference = yardstick.reference()
        scoring = Scoring(yardstick.evaluation, range(len(yardstick.evaluation)), reference)
        outputs, failure = self._trial.outputs(recipe, scoring)
        if failure:
            return _no_artifact(failure)
        if other := [name for name, wanted in reference.items() if outputs[name].shape != wanted.shape]:
            return _no_artifact(f"output {', '.join(other)} has another shape than the float model's")
        agreement = yardstick.metric.agreement(reference, outputs)
        with yardstick.lock:
            metric = yardstick.metric.compare(reference, outputs)
        return CellScore(
            sqnr_db=min(item.sqnr_db for item in compare_outputs(reference, outputs)),
            metric=metric,
            agreement=None if agreement is None else float(agreement.mean()),
        )

    def _fidelity(self, recipe: Recipe) -> tuple[tuple[LayerFidelity, ...], str]:
        def compute() -> dict[str, Any]:
            self._progress("compare layers")
            try:
                found = self._trial.compare_layers(recipe)
            except (WorkerError, StorageError):
                raise
            except EdgecError as error:
                return {"layers": [], "failure": error.what}
            return {"layers": [item.model_dump(mode="json") for item in found], "failure": ""}

        try:
            value = self._cells.kept("fidelity", recipe, compute)
        except WorkerError as error:
            return (), error.what
        return tuple(LayerFidelity.model_validate_json(json.dumps(item)) for item in value["layers"]), value["failure"]


def _no_artifact(why: str) -> CellScore:
    return CellScore(sqnr_db=None, metric=None, agreement=None, failure=why)
