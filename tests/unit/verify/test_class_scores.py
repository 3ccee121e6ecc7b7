"""What is taken for class scores, and what only looks like it."""

import re

import numpy as np
import pytest

from edgec.verify.class_scores import find_class_scores

RNG = np.random.default_rng(0)
SAMPLES = 60


def softmax(values):
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)


def logits(classes, samples=SAMPLES, sure=9.0):
    """As of a trained classifier, sure of most samples."""
    right = RNG.integers(0, classes, samples)
    return (np.eye(classes)[right] * sure + RNG.normal(0, 2, (samples, classes)))[:, None].astype(np.float32)


def bump(width):
    """Scores of 360 bins around a value, as of a pitch detector."""
    middle = RNG.uniform(40, 320, (SAMPLES, 1))
    return np.exp(-(((np.arange(360) - middle) / width) ** 2))[:, None].astype(np.float32)


def of_unit_length(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


TWO = RNG.normal(0, 3, (SAMPLES, 1, 1))
SEQUENCE = RNG.normal(0, 1, (8, 1, 20, 500)) + 14 * np.eye(500)[RNG.integers(0, 500, (8, 1, 20))]


@pytest.mark.parametrize(
    "output",
    [
        logits(10),
        logits(3),
        logits(1000, sure=12.0),
        softmax(logits(10)),
        softmax(RNG.normal(0, 0.1, (SAMPLES, 1, 10))),  # of a net that is unsure
        np.log(softmax(logits(5))),
        np.concatenate([TWO, -TWO], -1) + RNG.normal(0, 0.5, (SAMPLES, 1, 2)),
        1 / (1 + np.exp(-(logits(6) - 5) * 3)),
        logits(10)[:, 0],  # no batch axis
        softmax(SEQUENCE),
        softmax(SEQUENCE[:, 0]),  # steps come first
    ],
    ids=["logits", "three", "thousand", "softmax", "unsure", "log-softmax", "two", "sigmoid", "flat", "text", "steps"],
)
def test_class_scores(output):
    found = find_class_scores("y", output, [("x", 784)])
    assert found.scores, found.why


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (RNG.normal((4.5, 3, 2, 1), 0.3, (SAMPLES, 1, 4)), "the arg-max of output \"y\" is the same for all samples"),
        (RNG.normal((4.2, 3, 2, 3.4), 0.35, (SAMPLES, 4)), r"the same for 9\d % of the samples|never negative"),
        (RNG.normal(0, 5, (SAMPLES, 1, 640)), 'as many elements as input "x"'),
        (of_unit_length(RNG.normal(0, 1, (SAMPLES, 1, 256))), "of length 1: an embedding"),
        (RNG.normal(0, 1, (SAMPLES, 1, 384)), "no value of output"),
        (RNG.normal(0, 12, (SAMPLES, 1, 512)), "no value of output"),  # as unsure, on a larger scale
        (np.maximum(RNG.normal(0, 3, (SAMPLES, 1, 512)), 0), "never negative"),
        (bump(2.0), "next to the best"),
        (softmax(bump(4.0) * 9), "next to the best"),
        (RNG.normal(0, 30, (SAMPLES, 1, 3)), "no value of output"),  # three angles
        (RNG.normal(0, 1, (SAMPLES, 1, 2)), "no value of output"),  # two offsets
        (RNG.uniform(0, 1, (SAMPLES, 1, 8)), "do not exclude each other"),
        (RNG.normal(0, 1, (8, 1, 20, 64)), "do not sum to 1 at each step"),
        (softmax(logits(10))[:1], "the same for all samples"),
    ],
    ids=[
        "constant", "quality scores", "autoencoder", "unit length", "embedding", "large embedding", "features",
        "pitch", "ages", "angles", "offsets", "tags", "hidden states", "one sample",
    ],
)  # fmt: skip
def test_what_only_looks_like_it(output, why):
    found = find_class_scores("y", output, [("x", 640)])
    assert not found.scores, found.why
    assert re.search(why, found.why), found.why


def test_scores_that_are_not_finite_are_no_evidence():
    masked = logits(10)
    masked[:, :, 3] = -np.inf
    assert not find_class_scores("y", masked).scores
    with np.errstate(divide="ignore"):
        never = np.log(np.where(np.arange(10) == 3, 0, softmax(softmax(masked) * 20)))
    never -= np.log(np.exp(never).sum(axis=-1, keepdims=True))
    assert find_class_scores("y", never).scores  # the logarithm of a probability of 0
