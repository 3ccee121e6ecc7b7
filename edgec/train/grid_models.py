"""Quantization-aware training for the artifacts of a build: once for each grid, and only when a rung asks for it."""

from __future__ import annotations

import threading
from pathlib import Path

from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, ProjectError
from edgec.passes.coverage import Coverage
from edgec.plan.context import BuildContext
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.target.spec import WEIGHT_ONLY
from edgec.train.requests import TrainAnswer, TrainRequest
from edgec.train.training_data import TrainingSamples
from edgec.workers.group import WorkerGroup
from edgec.workers.worker import WITH_TORCH


class GridModels:
    """Models trained for a weight grid; artifacts with the same grid share one. Used from several threads.

    Args:
        context: of the build.
        samples: training samples; None: there are none.
        calibration: calibration samples.
        workers: where training runs.
    """

    def __init__(
        self, context: BuildContext, samples: TrainingSamples | None, calibration: Spool | None, workers: WorkerGroup
    ) -> None:
        self._context, self._samples, self._calibration, self._workers = context, samples, calibration, workers
        self._lock = threading.Lock()
        self._results: dict[WeightGrid, TrainAnswer | EdgecError] = {}

    def folder_of(self, grid: WeightGrid) -> Path:
        """Folder of the model (`edgec.model.store`) trained for `grid`; the first call trains it.

        Raises:
            EdgecError: training failed, now or before: it is not tried again.
        """
        spec, samples = self._context.plan.project.train, self._samples
        if spec is None or samples is None:
            raise ProjectError("no training data is named", hint='[train] data = "training.npz", or --train DATA')
        folder = self._context.scratch / f"trained-{grid.digest()[:16]}"
        with self._lock:
            if grid not in self._results:
                try:
                    self._results[grid] = self._train(spec, samples, grid, folder)
                except EdgecError as error:
                    self._results[grid] = error
            result = self._results[grid]
        if isinstance(result, EdgecError):
            raise result
        return folder

    def coverage(self, grid: WeightGrid, file: str) -> tuple[Coverage, ...]:
        """What to record of artifact `file`, which was made of the model trained for `grid`."""
        answer = self._results[grid]
        assert isinstance(answer, TrainAnswer), "the artifact was made of it"
        return (Coverage(subject=file, state="trained", reason=answer.summary), *answer.coverage)

    def _train(self, spec: TrainSpec, samples: TrainingSamples, grid: WeightGrid, folder: Path) -> TrainAnswer:
        context, target = self._context, self._context.plan.target
        return self._workers.call(
            "edgec.train.task:train_quantized",
            TrainRequest(
                model=context.model,
                grid=grid,
                activations="float" if target.precision in WEIGHT_ONLY else "int8",
                keep_zeros=target.prune.sparsity > 0,
                spec=spec,
                training=samples.read().folder,
                calibration=self._calibration.folder if self._calibration else None,
                out=folder,
                checkpoints=context.checkpoints,
                root=context.root,
                seed=context.plan.project.build.seed,
                threads=context.threads,
            ),
            TrainAnswer,
            what="quantization-aware training",
            threads=context.threads,
            imports=WITH_TORCH,
            on_progress=lambda step: context.progress(f"train: {step}"),
        ).value
