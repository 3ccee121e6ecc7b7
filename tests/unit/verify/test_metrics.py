"""Which metric is used, what it says, and labels that do not fit."""

import numpy as np
import pytest

from edgec.errors import DatasetError, LabelsError, ProjectError
from edgec.model.spec import TensorSpec
from edgec.verify.metrics import choose_metric

SCORES = (TensorSpec(name="logits", shape=(1, 3)),)
MAP = (TensorSpec(name="mask", shape=(1, 2, 4, 4)),)
LABELS = np.array([0, 1, 2, 1])
REFERENCE = {"logits": np.eye(3, dtype=np.float32)[[0, 1, 2, 1]][:, None]}
OTHER = {"logits": np.eye(3, dtype=np.float32)[[0, 1, 0, 1]][:, None]}


@pytest.mark.parametrize(
    ("outputs", "labels", "name"),
    [
        (SCORES, LABELS, "top1"),
        (SCORES, None, "auto"),
        (SCORES, np.zeros(4), "top1"),
        (MAP, LABELS, "auto"),
        ((TensorSpec(name="p", shape=(1, 1)),), LABELS, "auto"),
        ((TensorSpec(name="class", shape=(1, 4), dtype="int64"),), LABELS, "auto"),
    ],
)
def test_auto_before_the_float_model_has_run(tmp_path, outputs, labels, name):
    assert choose_metric("auto", outputs, labels, tmp_path).name == name


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (SCORES, None, "has no labels"),
        (SCORES, np.array([0, 1, 2, 3]), "from 0 to 3, but the output has 3 classes"),
        (SCORES, np.array([-1, 1, 2, 0]), "from -1 to 2"),
        (SCORES, np.eye(3), "one-hot"),
        (MAP, LABELS, "not one score for each"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, outputs, labels, message):
    with pytest.raises(LabelsError, match=message):
        choose_metric("top1", outputs, labels, tmp_path)


@pytest.mark.parametrize("labels", [np.eye(3), np.array([0.5, 1, 2, 0])], ids=["one-hot", "fractions"])
def test_labels_are_never_left_out_unsaid(tmp_path, labels):
    with pytest.raises(LabelsError, match="one class number"):
        choose_metric("auto", SCORES, labels, tmp_path)


def test_outputs_of_a_fixed_batch_are_split(tmp_path):
    batch = (TensorSpec(name="logits", shape=(2, 3)),)
    pairs = [{name: array.reshape(2, 2, 3) for name, array in item.items()} for item in (REFERENCE, OTHER)]
    metric = choose_metric("auto", batch, LABELS, tmp_path, group=2)
    assert metric.name == "top1"
    assert metric.compare(*pairs) == choose_metric("auto", SCORES, LABELS, tmp_path).compare(REFERENCE, OTHER)
    with pytest.raises(DatasetError, match="not one for each of the 2 samples"):
        choose_metric("auto", (*batch, TensorSpec(name="mean", shape=(3,))), LABELS, tmp_path, group=2)


def test_unknown_metrics(tmp_path):
    with pytest.raises(ProjectError, match='did you mean "top1"'):
        choose_metric("top-1", SCORES, LABELS, tmp_path)
    with pytest.raises(ProjectError, match="needs class scores"):
        choose_metric("agreement", MAP, None, tmp_path)
    with pytest.raises(ProjectError, match="no such file"):
        choose_metric("m.py:f", SCORES, None, tmp_path)


def test_top1_is_paired(tmp_path):
    result = choose_metric("top1", SCORES, LABELS, tmp_path).compare(REFERENCE, OTHER)
    assert (result.float_value, result.value, result.drop, result.unit) == (100, 75, 25, "points")
    assert result.drop_low < 25 < result.drop_high
    assert "Agresti-Min" in result.interval


def test_agreement_has_a_wilson_interval(tmp_path):
    result = choose_metric("agreement", SCORES, None, tmp_path).compare(REFERENCE, OTHER)
    assert (result.value, result.drop) == (75, 25)
    assert 0 < result.drop_low < 25 < result.drop_high < 100


METRICS = """
import numpy as np
def per_sample(outputs, labels):
    assert outputs["logits"].shape == (4, 3)
    return outputs["logits"].argmax(-1) == labels
def error(outputs, labels):
    return -10.0 * outputs["logits"].sum(axis=-1) * labels
def one(outputs, labels):
    return float(outputs["logits"][:, 0].mean())
def wrong(outputs, labels):
    return np.zeros(3)
def fails(outputs, labels):
    return outputs["nope"]
"""


@pytest.fixture
def entry(tmp_path):
    (tmp_path / "m.py").write_text(METRICS)
    return lambda name: choose_metric(f"m.py:{name}", SCORES, LABELS, tmp_path)


def test_python_metrics(entry):
    shares = entry("per_sample").compare(REFERENCE, OTHER)
    assert (shares.drop, shares.unit) == (25, "points")
    assert "Agresti-Min" in shares.interval
    real = entry("error").compare(REFERENCE, {"logits": 2 * REFERENCE["logits"]})
    assert (real.unit, real.float_value, real.drop) == ("1", -10, 10)
    assert "t interval" in real.interval
    one = entry("one").compare(REFERENCE, OTHER)
    assert (one.float_value, one.value, one.drop_low) == (25, 50, None)


def test_python_metrics_that_fail(entry):
    with pytest.raises(ProjectError, match=r"float64 of shape \[3\]"):
        entry("wrong").compare(REFERENCE, OTHER)
    with pytest.raises(ProjectError, match=r"m\.py:13: KeyError"):
        entry("fails").compare(REFERENCE, OTHER)
