"""A deterministic, class-balanced choice of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgec.model.spec import Array

Indices = npt.NDArray[np.int64]


def choose(count: int, labels: Array | None, samples: int | None, seed: int) -> Indices:
    """Indices of `samples` of `count` samples, without repetition, in an order that mixes the classes.

    With class labels (integers, one a sample), class counts differ by at most one, except for classes that have
    no more samples; every prefix of the result is balanced in the same way. Without, one sample is drawn from
    each of `samples` equal stretches of the set. None, or more than there are, takes all.

    Args:
        count: samples in the set.
        labels: one a sample, or None.
        samples: how many to choose; None for all.
        seed: of the choice.
    """
    wanted = count if samples is None else min(samples, count)
    rng = np.random.default_rng(seed)
    classes = class_labels(labels)
    if classes is None:
        edges = np.linspace(0, count, wanted + 1).astype(np.int64)
        drawn = edges[:-1] + (rng.random(wanted) * np.diff(edges)).astype(np.int64)
        return rng.permutation(drawn)
    shuffled = rng.permutation(count)
    names, numbers = np.unique(classes[shuffled], return_inverse=True)
    turn = np.empty(count, np.int64)  # how many samples of the same class come before, in shuffled order
    by_class = np.argsort(numbers, kind="stable")
    sizes = np.bincount(numbers, minlength=len(names))
    turn[by_class] = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    class_order = rng.permutation(len(names))[numbers]
    chosen: Indices = shuffled[np.lexsort((class_order, turn))][:wanted].astype(np.int64)
    return chosen


def class_labels(labels: Array | None) -> npt.NDArray[Any] | None:
    """`labels` as one integer a sample (also of floats with whole numbers); None when they are not class labels."""
    if labels is None or labels.dtype.kind not in "iubf" or labels.size != len(labels):
        return None
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f":
        return flat.astype(np.int64) if np.isfinite(flat).all() and (flat == np.round(flat)).all() else None
    return flat
