"""The share of an output that is the same as the float model's: classes, classes step by step, or whole numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np

from edgec.model.spec import Array
from edgec.verify.outputs import chunks
from edgec.verify.statistics import Interval, paired_means, wilson

Unit = Literal["", "class", "steps", "elements"]
"""What of a sample is compared.

``class``: the arg-max of its one vector of scores. ``steps``: that of each vector of a sequence. ``elements``: each
whole number of its map. Empty: it has nothing of the kind.
"""


def unit_of(shape: tuple[int, ...], dtype: str) -> Unit:
    """What can be compared in an output of this shape, batch axis of 1 included."""
    if not dtype.startswith("float"):
        return "elements"
    if not shape or shape[-1] < 2:
        return ""
    longer = [size for size in shape[:-1] if size != 1]
    return ("class", "steps", "")[min(len(longer), 2)]


def predictions(output: Array) -> Array:
    """Index of the highest of the last axis, shape (samples, vectors); -1 where a vector has a NaN."""
    vectors = int(np.prod(output.shape[1:-1], dtype=np.int64))
    predicted = np.empty((len(output), vectors), np.int64)
    for part in chunks(output):
        scores = np.asarray(output[part]).reshape(-1, vectors, output.shape[-1])
        predicted[part] = np.where(np.isnan(scores).any(axis=-1), -1, scores.argmax(axis=-1))
    return predicted


def equal_shares(reference: Array, output: Array, unit: Unit) -> Array:
    """For each sample the share, from 0 to 1, of what is compared that equals the float model's; shape (samples,).

    Args:
        reference: of the float model, shape (samples, ...).
        output: of the artifact, of the same shape.
        unit: not empty.
    """
    if unit == "elements":
        shares = [
            (np.asarray(reference[part]) == np.asarray(output[part])).reshape(len(reference[part]), -1).mean(axis=1)
            for part in chunks(reference)
        ]
        return np.concatenate(shares)
    return np.asarray((predictions(reference) == predictions(output)).mean(axis=1))


def interval_of(shares: Array) -> Interval | None:
    """95 % interval of the mean share: Wilson's where each is all or nothing, else Student's t; None for too few."""
    if bool(np.isin(shares, (0, 1)).all()):
        return wilson(int(shares.sum()), len(shares))
    means = paired_means(shares)
    return means and Interval(max(0.0, means.low), min(1.0, means.high), means.method)
