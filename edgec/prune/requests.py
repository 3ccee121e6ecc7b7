"""What `edgec.prune.task.prune_model` is asked and answers: both sides import these records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgec.frozen import Frozen
from edgec.passes.coverage import Coverage
from edgec.project.spec import TrainSpec
from edgec.target.spec import PruneSpec


class PruneRequest(Frozen):
    """Prune a float model, and train it where there is training data."""

    model: Path
    """Folder of a model of plain modules, BatchNorm not folded (`edgec.model.store`)."""
    spec: PruneSpec
    """`PruneSpec.round_to` stated."""
    share: float | None = None
    """Of channels, where a search has found it; None: `spec` states it."""
    train: TrainSpec | None = None
    training: Path | None = None
    """Folder of the training samples."""
    out: Path
    """Folder to write the model to."""
    checkpoints: Path
    """Folder that is kept until the model is written."""
    root: Path
    """The project's folder."""
    may_stay_whole: bool | None = None
    """Whether a model without a layer that can lose channels is accepted; None: where `spec` asks for zeros too."""
    seed: int
    threads: int


class PruneAnswer(Frozen):
    """What pruning has done; pairs are before and after."""

    summary: str
    """One line."""
    coverage: tuple[Coverage, ...]
    channels: dict[str, tuple[int, int]]
    """Output channels by layer."""
    macs: tuple[int, int] | None
    parameters: tuple[int, int] | None
    share: float
    """Of channels, to be removed in all."""
    sparsity: float
    """Share of zeros in the weights."""
    epochs: tuple[tuple[Any, ...], ...]
    """Records of the epochs of each step."""
