"""What ``auto`` becomes when the float model has run, and where agreement is told."""

import re

import numpy as np
import pytest

from edgec.model.spec import TensorSpec
from edgec.verify.metrics import choose_metric
from edgec.verify.settle import settle, sure_agreement

SCORES = (TensorSpec(name="logits", shape=(1, 3)),)
LABELS = np.array([0, 1, 2, 1])
REFERENCE = {"logits": np.eye(3, dtype=np.float32)[[0, 1, 2, 1]][:, None]}
OTHER = {"logits": np.eye(3, dtype=np.float32)[[0, 1, 0, 1]][:, None]}


@pytest.mark.parametrize(
    ("values", "name", "unit", "why"),
    [
        (REFERENCE["logits"], "agreement", "class", 'metric: agreement, because output "y" holds probabilities of 3'),
        (REFERENCE["logits"][:1], "sqnr", "", 'metric: SQNR, because the arg-max of output "y" is the same for all'),
        (np.zeros((4, 1, 2, 4, 4)), "sqnr", "", r'output "y" of shape \[1, 2, 4, 4\] holds no class scores'),
        (np.eye(5)[np.arange(20).reshape(2, 1, 10) % 5], "agreement", "steps", "probabilities of 5 classes"),
        (np.arange(40).reshape(10, 1, 4), "agreement", "elements", "whole numbers, of which the equal ones"),
        (np.arange(1024).reshape(4, 1, 256).astype(np.uint8), "sqnr", "", "the shades of a picture"),
        (np.zeros((4, 1, 256), np.uint8), "agreement", "elements", "whole numbers"),
    ],
    ids=["scores", "one sample", "map", "sequence", "classes", "picture", "mask"],
)
def test_auto_is_settled_by_values(tmp_path, values, name, unit, why):
    reference = {"y": values}
    output = TensorSpec(name="y", shape=values.shape[1:], dtype=str(values.dtype))
    metric, told = settle(choose_metric("auto", (output,), None, tmp_path), reference, (output,))
    assert (metric.name, metric.unit) == (name, unit)
    assert re.search(why, told), told
    compared = metric.compare(reference, reference)
    assert compared is None if name == "sqnr" else compared.value == 100


def test_agreement_is_told_only_where_it_says_something(tmp_path):
    constant = {"logits": np.tile(np.float32([4, 3, 2]), (4, 1, 1))}
    for name in ("sqnr", "auto"):
        metric = choose_metric(name, SCORES, None, tmp_path)
        assert settle(metric, constant, SCORES)[0].agreement(constant, constant) is None
        assert settle(metric, REFERENCE, SCORES)[0].agreement(REFERENCE, OTHER).tolist() == [1, 1, 0, 1]
        insisted, _ = settle(metric, constant, SCORES, insisted=True)
        assert (insisted.name, insisted.agreement(constant, constant).tolist()) == ("sqnr", [1] * 4)
    for name in ("agreement", "top1"):  # stated
        metric = choose_metric(name, SCORES, LABELS, tmp_path)
        assert settle(metric, constant, SCORES) == (metric, "")
        assert metric.agreement(constant, constant).tolist() == [1] * 4
    assert sure_agreement(constant, constant, SCORES) is None
    assert sure_agreement(REFERENCE, OTHER, SCORES) == 0.75


def test_an_autoencoder_is_no_classifier(tmp_path):
    values = 9 * np.eye(16)[np.arange(16)[:, None]] + np.random.default_rng(0).normal(0, 1, (16, 1, 16))
    outputs = (TensorSpec(name="y", shape=(1, 16)),)
    metric = choose_metric("auto", outputs, None, tmp_path)
    assert settle(metric, {"y": values}, (TensorSpec(name="x", shape=(1, 4, 4)),))[0].name == "sqnr"
    assert settle(metric, {"y": values}, (TensorSpec(name="x", shape=(1, 4, 5)),))[0].name == "agreement"
