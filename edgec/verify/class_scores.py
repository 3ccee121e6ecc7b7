"""Whether an output's values are class scores: only then does an equal arg-max say that an artifact is right.

Any vector has an arg-max. That of four quality scores on scales of their own is always the same one; that of an
embedding, of an autoencoder's output or of neighbouring pitch bins moves with the last bit. What is judged here is the
float model's output over the evaluation samples. In doubt, the output is not taken for class scores, and SQNR decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from edgec.model.spec import Array
from edgec.verify.outputs import chunks

TYPICAL = 0.9
"""Largest share of the commonest class: above it, an artifact that always gives this class comes near to agreeing."""
UNITY = 1e-3
"""How far the sum of probabilities, or the length of a vector, may be from 1."""
ORDINAL_CLASSES = 8
"""With fewer classes the runner-up is a neighbour of the best by chance."""
ORDINAL_SHARE = 0.5
"""Share of samples whose two best classes are neighbours, from which classes are an order."""
ALONE = 0.9
"""Share of samples of which exactly one score is above a half, from which sigmoid scores exclude each other."""
SURE = 0.5
"""Probability that softmax gives the best of unscaled scores, in the median, from which they are logits."""
SURE_OF_TWO = 0.75
OPPOSED = -0.5
"""Correlation of the logits of two classes: what speaks for one speaks against the other."""
CLEARER = 1.4
"""How many times as far the best score is from the second, in the median, than in a vector of noise.

Trained classifiers of 10 to 12 classes have 1.7 to 2.6; of 60 vectors of noise, 1 in 100 sets has 1.3 to 1.5.
"""
NOISE_SIZES = (3, 4, 5, 6, 8, 10, 12, 20, 50, 100, 360, 1000)
NOISE_GAPS = (1.21, 0.82, 0.70, 0.61, 0.53, 0.48, 0.43, 0.37, 0.31, 0.27, 0.23, 0.20)
"""The gap between the two largest of so many normal numbers, over their standard deviation: medians of 4000 draws."""


@dataclass(frozen=True)
class Finding:
    """What an output's values are."""

    scores: bool
    """Whether they are class scores."""
    why: str
    """What shows it, to follow ``because``."""


@dataclass(frozen=True)
class _Rows:
    """Facts of each vector of scores, shape (vectors,) each."""

    best: Array
    """Index of the largest."""
    second: Array
    gap: Array
    """Between the largest and the second."""
    low: Array
    high: Array
    total: Array
    norm: Array
    """Euclidean length."""
    spread: Array
    """Standard deviation."""
    above: Array
    """Number of scores above a half."""
    log_total: Array
    """Logarithm of the sum of exponentials: 0 for logarithms of probabilities."""


def find_class_scores(name: str, output: Array, sizes: Iterable[tuple[str, int]] = ()) -> Finding:
    """Whether `output` holds class scores.

    Args:
        name: of the output.
        output: of the float model, shape (samples, ..., classes) with at least 2 classes; with more than one vector
            a sample it is a sequence, whose scores must be probabilities.
        sizes: name and number of elements of each input: an output of equal size may be a copy of it.
    """
    subject = f'output "{name}"'
    what = "steps" if math.prod(output.shape[1:-1]) > 1 else "samples"
    if what == "steps" and not _probabilities(_rows(output[:1])):
        return Finding(False, f"the scores of {subject} do not sum to 1 at each step")
    rows = _rows(output)
    _, counts = np.unique(rows.best, return_counts=True)
    share = counts.max() / len(rows.best)
    if len(counts) == 1:
        return Finding(False, f"the arg-max of {subject} is the same for all {what}")
    if share > TYPICAL:
        return Finding(False, f"the arg-max of {subject} is the same for {100 * share:.0f} % of the {what}")
    classes = output.shape[-1]
    neighbours = float(np.mean(np.abs(rows.best - rows.second) == 1))
    if classes >= ORDINAL_CLASSES and neighbours >= ORDINAL_SHARE:
        return Finding(False, f"the classes of {subject} are in an order: the second best is next to the best")
    if kind := _probabilities(rows):
        return Finding(True, f"{subject} holds {kind} of {classes} classes, and their arg-max varies")
    if what == "steps":
        return Finding(False, f"the scores of {subject} do not sum to 1 at each step")
    same = [item for item, size in sizes if size == classes]
    if same:
        return Finding(False, f'{subject} has as many elements as input "{same[0]}"')
    return _unscaled(subject, rows, output)


def _probabilities(rows: _Rows) -> str:
    """What they are called; empty when they are none."""
    if rows.low.min() >= -UNITY and np.abs(rows.total - 1).max() <= UNITY:
        return "probabilities"
    if rows.high.max() <= UNITY and np.abs(rows.log_total).max() <= UNITY:
        return "logarithms of probabilities"
    return ""


def _unscaled(subject: str, rows: _Rows, output: Array) -> Finding:
    """Scores that are not probabilities."""
    classes = output.shape[-1]
    if np.abs(rows.norm - 1).max() <= UNITY:
        return Finding(False, f"{subject} is a vector of length 1: an embedding")
    if rows.low.min() >= 0:
        if rows.high.max() > 1:
            return Finding(False, f"{subject} is never negative, as logits are, and no share of 1")
        alone = float(np.mean(rows.above == 1))
        if alone < ALONE:
            return Finding(False, f"the scores of {subject} do not exclude each other")
        return Finding(True, f"of the {classes} scores of {subject} one is above a half, and which varies")
    sure = float(np.median(np.exp(rows.high - rows.log_total)))
    if classes == 2:
        pairs = np.asarray(output, np.float64).reshape(-1, 2)
        opposed = float(np.corrcoef(pairs.T)[0, 1])
        logits = sure >= SURE_OF_TWO and opposed <= OPPOSED
    else:
        noise = float(np.interp(np.log(classes), np.log(NOISE_SIZES), NOISE_GAPS))
        clear = float(np.median(rows.gap / np.maximum(rows.spread, 1e-30)))
        logits = sure >= SURE and clear >= CLEARER * noise
    if not logits:
        return Finding(False, f"no value of {subject} stands out as the scores of a sure classifier do")
    return Finding(True, f"{subject} holds {classes} logits, of which one stands out, and which varies")


def _rows(output: Array) -> _Rows:
    parts = [_rows_of(np.asarray(output[part], np.float64).reshape(-1, output.shape[-1])) for part in chunks(output)]
    return _Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def _rows_of(values: Array) -> _Rows:
    best, high = values.argmax(axis=1), values.max(axis=1)
    others = values.copy()
    np.put_along_axis(others, best[:, None], -np.inf, axis=1)
    with np.errstate(all="ignore"):  # scores may be infinite: nothing holds of what comes out as NaN then
        return _Rows(
            best=best,
            second=others.argmax(axis=1),
            gap=high - others.max(axis=1),
            low=values.min(axis=1),
            high=high,
            total=values.sum(axis=1),
            norm=np.sqrt(np.square(values).sum(axis=1)),
            spread=values.std(axis=1),
            above=(values > 0.5).sum(axis=1),
            log_total=high + np.log(np.exp(values - high[:, None]).sum(axis=1)),
        )
