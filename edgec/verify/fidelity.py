"""How near an artifact's outputs are to the float model's."""

from __future__ import annotations

import math

import numpy as np

from edgec.model.spec import Array
from edgec.verify.outputs import Outputs, chunks
from edgec.verify.records import OutputFidelity


def compare_outputs(reference: Outputs, outputs: Outputs) -> tuple[OutputFidelity, ...]:
    """Each output of an artifact against the float model's, in the model's order."""
    return tuple(compare(name, array, outputs[name]) for name, array in reference.items())


def compare(name: str, reference: Array, array: Array) -> OutputFidelity:
    """SQNR over all samples in dB, and the largest absolute error.

    SQNR = 10 log10(sum of squares of float / sum of squares of difference). Equal values, infinite ones too,
    differ by 0. Where the artifact is NaN, or infinite and the float model is not, SQNR is -inf.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != array.shape:
        raise ValueError(f'output "{name}" has shape {list(array.shape)}, the float model {list(reference.shape)}')
    signal = noise = worst = 0.0
    for part in chunks(reference):
        wanted = np.asarray(reference[part], np.float64)
        got = np.asarray(array[part], np.float64)
        difference = np.zeros_like(wanted)
        np.subtract(wanted, got, out=difference, where=wanted != got)
        if not np.isfinite(difference).all():
            return OutputFidelity(output=name, sqnr_db=-math.inf, max_abs_error=math.inf)
        signal += float(np.square(wanted, where=np.isfinite(wanted), out=np.zeros_like(wanted)).sum())
        noise += float(np.square(difference).sum())
        worst = max(worst, float(np.abs(difference).max(initial=0.0)))
    if noise == 0.0:
        sqnr = math.inf
    elif signal == 0.0:
        sqnr = -math.inf
    else:
        sqnr = 10 * (math.log10(signal) - math.log10(noise))
    return OutputFidelity(output=name, sqnr_db=sqnr, max_abs_error=worst)
