"""Tensor names and axis orders between the float model and a TFLite file.

TFLite convention: rank-4 float inputs are NHWC; every other input keeps the float model's layout. The converter
decides the layout of outputs, so that is *measured*: the axis order under which the outputs equal the float model's.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np

from edgec.model.spec import Array, TensorSpec

NHWC = (0, 2, 3, 1)


def input_permutation(spec: TensorSpec) -> tuple[int, ...] | None:
    """Axis order that turns the float model's input into the artifact's; None: the same."""
    return NHWC if len(spec.shape) == 4 and spec.dtype == "float32" else None


def to_artifact(array: Array, permutation: Sequence[int] | None) -> Array:
    """`array` of the float model in the artifact's layout, contiguous."""
    return np.ascontiguousarray(array if permutation is None else np.transpose(array, permutation))


def artifact_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names that TensorFlow accepts as arguments and result keys: letters, digits, ``_``; unique, in order."""
    taken: list[str] = []
    for name in names:
        stem = re.sub(r"\W", "_", name, flags=re.ASCII) or "tensor"
        stem = f"t_{stem}" if stem[0].isdigit() or stem[0] == "_" else stem
        candidate, number = stem, 2
        while candidate in taken:
            candidate, number = f"{stem}_{number}", number + 1
        taken.append(candidate)
    return tuple(taken)


PROBABILITY_STEP = 1e-6
"""Some steps of float32 near 1."""


def sqnr_db(reference: Sequence[Array], value: Sequence[Array]) -> float:
    """Signal to quantization-noise ratio of `value` in dB over all samples; inf when equal.

    Elements whose reference is not finite must agree exactly (an infinity stays one); otherwise -inf.
    """
    signal = noise = 0.0
    for want_raw, got_raw in zip(reference, value, strict=True):
        want, got = np.asarray(want_raw, np.float64), np.asarray(got_raw, np.float64)
        finite = np.isfinite(want)
        if not np.array_equal(want[~finite], got[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
            return float("-inf")
        signal += float(np.square(want[finite]).sum())
        noise += float(np.square(want[finite] - got[finite]).sum())
    if noise == 0.0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def match_output(
    reference: Sequence[Array], outputs: Sequence[Array], *, probabilities: bool = False
) -> tuple[tuple[int, ...] | None, float]:
    """The axis order that turns the artifact's `outputs` into the float model's `reference`, by smallest error.

    Args:
        reference: the float model's output, one array a sample.
        outputs: the artifact's output for the same samples.
        probabilities: what differs by less than `PROBABILITY_STEP` is equal: of samples that show nothing all
            probabilities are near 0, where kernels of sigmoid and softmax have few right digits.

    Returns:
        The permutation (None: the same layout, preferred unless another is clearly nearer) and its SQNR in dB;
        -inf when no axis order even gives the right shape.
    """
    rank = reference[0].ndim
    best: tuple[int, ...] | None = None
    best_db = float("-inf")
    if outputs[0].ndim != rank:
        return None, best_db
    identity = tuple(range(rank))
    orders = itertools.permutations(identity) if rank <= 5 else iter([identity])
    for order in orders:
        if tuple(outputs[0].shape[axis] for axis in order) != reference[0].shape:
            continue
        moved = [np.transpose(item, order) for item in outputs]
        if probabilities:
            moved = [np.where(np.abs(a - b) < PROBABILITY_STEP, b, a) for a, b in zip(moved, reference, strict=True)]
        error_db = sqnr_db(reference, moved)
        if error_db > best_db + 6.0 or (best_db == float("-inf") and error_db > best_db):
            best, best_db = (None if order == identity else order), error_db
    return best, best_db
