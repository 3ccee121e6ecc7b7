"""Quantization-aware training for the artifacts of a build: once for each grid, and only when a rung asks for it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from edgec.build.job import BuildData, Job
from edgec.build.processes import Processes
from edgec.errors import EdgecError, ProjectError
from edgec.passes.coverage import Coverage
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.target.spec import WEIGHT_ONLY
from edgec.train.training_data import TrainingSamples
from edgec.workers.worker import WITH_TORCH


class Training:
    """Trained models by grid; artifacts with the same grid share one.

    Args:
        job: what is built.
        data: what it is built from.
        processes: where training runs.
    """

    def __init__(self, job: Job, data: BuildData, processes: Processes) -> None:
        self._job, self._data, self._processes = job, data, processes
        self._lock = threading.Lock()
        self._results: dict[WeightGrid, dict[str, Any] | EdgecError] = {}

    def model(self, grid: WeightGrid) -> Path:
        """Folder of the model (`edgec.model.store`) trained for `grid`; may take long the first time.

        Raises:
            EdgecError: training failed, now or before: it is not tried again.
        """
        spec, samples = self._job.plan.project.train, self._data.training
        if spec is None or samples is None:
            raise ProjectError("no training data is named", hint='[train] data = "training.npz", or --train DATA')
        folder = self._job.scratch / f"trained-{grid.digest()[:16]}"
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
        """What artifact `file`, trained for `grid`, has to tell."""
        told = self._results[grid]
        assert isinstance(told, dict), "the artifact was made of it"
        found = tuple(Coverage.model_validate_json(json.dumps(item)) for item in told["coverage"])
        return (Coverage(subject=file, state="trained", reason=told["summary"]), *found)

    def _train(self, spec: TrainSpec, samples: TrainingSamples, grid: WeightGrid, folder: Path) -> dict[str, Any]:
        job, calibration = self._job, self._data.calibration
        weight_only = job.plan.target.precision in WEIGHT_ONLY
        return self._processes.call(
            "edgec.train.task:train_quantized",
            {
                "model": str(job.scratch / "model"),
                "grid": grid.model_dump_json(),
                "activations": "float" if weight_only else "int8",
                "keep_zeros": job.plan.target.prune.sparsity > 0,
                "spec": spec.model_dump_json(),
                "training": str(samples.read().folder),
                "calibration": str(calibration.folder) if calibration else None,
                "out": str(folder),
                "checkpoints": str(job.checkpoints),
                "root": str(job.root),
                "seed": job.plan.project.build.seed,
                "threads": job.threads,
            },
            what="quantization-aware training",
            threads=job.threads,
            imports=WITH_TORCH,
            on_progress=lambda step: job.progress(f"train: {step}"),
        ).value
