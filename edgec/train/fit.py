"""Quantization-aware training: how long, how fast, and with which ranges."""

from __future__ import annotations

from edgec.passes.weight_layers import spread
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.train.fake_quantize import is_coarse
from edgec.train.loop import Loop, Schedule, Teacher, enough_epochs
from edgec.train.prepare import TrainableModel
from edgec.train.samples import Samples

LEARNING_RATE, COARSE_LEARNING_RATE = 1e-4, 1e-3
"""For 8 bits, where little is to be mended, and for 4: parts of a tensor's root mean square that a step moves it by."""
EPOCHS, STEPS, COARSE_STEPS = 4, 60, 150
"""Epochs at least, and steps at least: small data is gone through more often."""
CALIBRATED = 256
"""Training samples that give activations their ranges when there are no calibration samples."""


class Fit(Loop):
    """Training one model for the grid of a backend.

    Args:
        model: what is trained.
        teacher: what it was made of.
        samples: the training data.
        calibration: the samples that backends take ranges from.
        spec: ``[train]``.
        grid: of the weights.
        seed: of the order of samples.
    """

    def __init__(
        self,
        model: TrainableModel,
        teacher: Teacher,
        samples: Samples,
        calibration: Samples | None,
        spec: TrainSpec,
        grid: WeightGrid,
        seed: int,
    ) -> None:
        rate = spec.learning_rate or (COARSE_LEARNING_RATE if is_coarse(grid) else LEARNING_RATE)
        epochs = spec.epochs or enough_epochs(
            len(samples), spec.batch_size, EPOCHS, COARSE_STEPS if is_coarse(grid) else STEPS
        )
        super().__init__(model, teacher, samples, Schedule(epochs, spec.batch_size, rate, seed))
        self._trainable = model
        self._calibration = calibration or samples
        self._calibrated = spread(len(self._calibration), len(calibration) if calibration else CALIBRATED)

    def calibrate(self) -> None:
        """Give activations the ranges that backends will give them."""
        chunks = self._teacher.chunks(self._calibrated, self._schedule.batch_size)
        self._trainable.observe(self._calibration.batch(indices)[0] for indices in chunks)
