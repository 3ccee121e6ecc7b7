"""How near an artifact's outputs are to the float model's."""

from __future__ import annotations

import math

import numpy as np

from edgec.model.spec import Array
from edgec.verify.channels import channel_groups
from edgec.verify.outputs import Outputs, chunks
from edgec.verify.records import OutputFidelity

CONSTANT = 1e-12
"""Part of the power of an output that differs from sample to sample by the rounding of float64 alone."""
SHADES = 200
"""An output of 8-bit integers with more different values than this is a picture, not a map of classes."""


def compare_outputs(reference: Outputs, outputs: Outputs) -> tuple[OutputFidelity, ...]:
    """Each output of an artifact against the float model's, in the model's order.

    An output whose channels differ greatly in size gives one result for each group of channels
    (`edgec.verify.channels`), one of whole numbers its share of equal ones.
    """
    return tuple(item for name, array in reference.items() for item in _compared(name, array, outputs[name]))


def is_map(reference: Array) -> bool:
    """Whether an output's numbers are names of things, as classes are, and not sizes: it matters if they are equal."""
    if reference.dtype.kind not in "biu":
        return False
    if reference.dtype.itemsize > 1 or reference.dtype.kind == "b":
        return True
    values: set[int] = set()
    for part in chunks(reference):
        values.update(np.unique(reference[part]).tolist())
    return len(values) <= SHADES


def compare(name: str, reference: Array, array: Array) -> OutputFidelity:
    """SQNR over all samples in dB, that of what differs between samples, and the largest absolute error.

    SQNR = 10 log10(sum of squares of float / sum of squares of difference). Equal values, infinite ones too,
    differ by 0. Where the artifact is NaN, or infinite and the float model is not, SQNR is -inf.

    Args:
        name: of the output.
        reference: of the float model, shape (samples, ...).
        array: of the artifact.

    Raises:
        ValueError: the shapes differ.
    """
    _require_shape(name, reference, array)
    worst = 0.0
    signal, noise = _Power(reference.shape[1:]), _Power(reference.shape[1:])
    for part in chunks(reference):
        wanted = np.asarray(reference[part], np.float64)
        got = np.asarray(array[part], np.float64)
        difference = np.zeros_like(wanted)
        np.subtract(wanted, got, out=difference, where=wanted != got)
        if not np.isfinite(difference).all():
            return OutputFidelity(output=name, sqnr_db=-math.inf, max_abs_error=math.inf)
        signal.add(np.where(np.isfinite(wanted), wanted, 0.0))
        noise.add(difference)
        worst = max(worst, float(np.abs(difference).max(initial=0.0)))
    varying = signal.varying
    return OutputFidelity(
        output=name,
        sqnr_db=_decibels(signal.total, noise.total),
        max_abs_error=worst,
        varying_db=_decibels(varying, noise.varying) if varying else None,
    )


def compare_map(name: str, reference: Array, array: Array) -> OutputFidelity:
    """The share of equal elements of an output of class numbers or truth values.

    Its SQNR is that of the numbers as one-hot vectors: each that differs is an error of 2 in a signal of 1.

    Args:
        name: of the output.
        reference: the float model's, (samples, *output shape).
        array: the artifact's, of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    _require_shape(name, reference, array)
    differ, worst = 0, 0.0
    for part in chunks(reference):
        wanted, got = np.asarray(reference[part], np.float64), np.asarray(array[part], np.float64)
        differ += int(np.count_nonzero(wanted != got))
        worst = max(worst, float(np.abs(wanted - got).max(initial=0.0)))
    return OutputFidelity(
        output=name,
        sqnr_db=_decibels(reference.size, 2 * differ),
        max_abs_error=worst if math.isfinite(worst) else math.inf,
        equal=1 - differ / reference.size if reference.size else 1.0,
    )


def _compared(name: str, reference: Array, array: Array) -> tuple[OutputFidelity, ...]:
    _require_shape(name, reference, array)
    if is_map(reference):
        return (compare_map(name, reference, array),)
    groups = channel_groups(reference) if reference.dtype.kind == "f" else ()
    if not groups:
        return (compare(name, reference, array),)
    parts = [compare(name, group.of(reference), group.of(array)) for group in groups]
    return tuple(
        item.model_copy(update={"output": f"{name}[{group.index}]", "channels": group.index})
        for item, group in zip(parts, groups, strict=True)
    )


class _Power:
    """Sums of squares of the elements of many samples.

    Args:
        shape: of one sample.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.total = 0.0
        self._sums = np.zeros(shape)
        self._samples = 0

    def add(self, values: Array) -> None:
        """Count more samples, shape (samples, ...)."""
        self.total += float(np.square(values).sum())
        self._sums += values.sum(axis=0)
        self._samples += len(values)

    @property
    def varying(self) -> float:
        """The same of what differs from the mean over all samples; 0 where that is rounding."""
        if not self._samples:
            return 0.0
        energy = self.total - float(np.square(self._sums).sum()) / self._samples
        return energy if energy > CONSTANT * self.total else 0.0


def _require_shape(name: str, reference: Array, array: Array) -> None:
    if reference.shape != array.shape:
        raise ValueError(f'output "{name}" has shape {list(array.shape)}, the float model {list(reference.shape)}')


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    if signal == 0:
        return -math.inf
    return 10 * (math.log10(signal) - math.log10(noise))
