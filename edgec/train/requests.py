"""What `edgec.train.task.train_quantized` is asked and answers: both sides import these records."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from edgec.frozen import Frozen
from edgec.passes.coverage import Coverage
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid


class TrainRequest(Frozen):
    """Train a float model for a weight grid."""

    model: Path
    """Folder of the model after the portable passes (`edgec.model.store`)."""
    grid: WeightGrid
    activations: Literal["int8", "float"] = "int8"
    """``float`` for weight-only artifacts."""
    keep_zeros: bool = False
    """Whether weights that are exactly zero stay so."""
    spec: TrainSpec
    training: Path
    """Folder of the training samples."""
    calibration: Path | None
    """Folder of the calibration samples."""
    out: Path
    """Folder to write the trained model to."""
    checkpoints: Path
    """Folder that is kept between builds."""
    root: Path
    """The project's folder."""
    seed: int
    threads: int


class TrainAnswer(Frozen):
    """What training has done."""

    epochs: tuple[dict[str, Any], ...]
    """Each with ``epoch``, ``loss`` and ``metric``."""
    metric: str
    """Name of the metric."""
    summary: str
    """One line."""
    coverage: tuple[Coverage, ...]
    """What is not simulated."""
