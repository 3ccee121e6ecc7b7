"""Boxes and scores in one tensor are judged apart; channels of one kind are not."""

import numpy as np
import pytest

from edgec.verify.channels import channel_groups

RNG = np.random.default_rng(1)


def detections(scores=18, boxes=60, samples=6):
    """As YOLOv8 gives them, shape [1, 4 + classes, boxes]: few scores are large, and most classes are never seen."""
    pixels = RNG.uniform(2, 320, (samples, 1, 4, boxes))
    found = RNG.uniform(0, 1e-4, (samples, 1, scores, boxes))
    found[:, :, scores // 2, :4] = RNG.uniform(0.3, 0.9, (samples, 1, 4))
    return np.concatenate([pixels, found], 2).astype(np.float32)


def with_channel(index, scale, count=16):
    features = RNG.normal(0, 1, (8, 1, count, 5, 5))
    features[:, :, index] *= scale
    return features


DETECTED = np.concatenate(
    [RNG.uniform(2, 640, (6, 1, 50, 4)), RNG.uniform(0, 1, (6, 1, 50, 1)), RNG.integers(0, 80, (6, 1, 50, 1))], -1
)
FAR = np.concatenate([RNG.normal(300, 3, (9, 1, 2)), RNG.normal(0, 0.1, (9, 1, 2)), RNG.normal(1e5, 1, (9, 1, 1))], -1)


@pytest.mark.parametrize(
    ("output", "groups"),
    [
        (detections(), ["0:4", "4:22"]),
        (detections(scores=1), ["0:4", "4:5"]),
        (detections().transpose(0, 1, 3, 2), [":,0:4", ":,4:22"]),
        (DETECTED, [":,0:4", ":,4:5", ":,5:6"]),
        (FAR, ["0:2", "2:4", "4:5"]),
        (FAR[:, 0], ["0:2", "2:4", "4:5"]),
        (with_channel(5, 1000.0), ["0:5", "5:6", "6:16"]),
    ],
    ids=["yolo", "one class", "channels last", "after suppression", "regression", "no batch axis", "outlier"],
)
def test_groups(output, groups):
    found = channel_groups(output)
    assert [item.index for item in found] == groups
    parts = np.concatenate([item.of(output).reshape(len(output), -1) for item in found], 1)
    assert parts.size == output.size
    assert [item.index for item in channel_groups(output[::-1])] == groups


SOFTMAX = np.where(np.arange(10) < 5, RNG.dirichlet(np.ones(10), (9, 1)), 1e-9)


@pytest.mark.parametrize(
    "output",
    [
        RNG.normal(0, 4, (9, 1, 10)),
        RNG.normal(0, 1, (9, 1, 16, 5, 5)),
        np.maximum(RNG.normal(0, 1, (9, 1, 16, 5, 5)), 0),
        with_channel(0, 0.0),
        with_channel(7, 1e-7),
        with_channel(0, 0.01),  # hardly used
        with_channel(slice(0, 16, 2), 0.001),  # by turns
        RNG.normal(0, 1, (9, 1, 16, 5, 5)) * np.geomspace(0.01, 10, 16)[:, None, None],  # no gap
        SOFTMAX,
        detections()[:, :, 4:],
        detections() / 320,  # boxes as shares of the picture
        np.zeros((3, 1, 4)),
        np.full((3, 1, 4), -np.inf),
        np.zeros((3,)),
        np.zeros((0, 1, 4)),
    ],
    ids=[
        "logits", "features", "rectified", "dead", "all but dead", "hardly used", "by turns", "no gap", "softmax",
        "scores", "shares", "zeros", "infinite", "scalar", "no samples",
    ],
)  # fmt: skip
def test_no_groups(output):
    assert channel_groups(output) == ()
