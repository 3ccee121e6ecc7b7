"""A float model that is no better than chance, or worse than it must be, is found; small sets are given the doubt."""

import numpy as np
import pytest

from edgec.errors import ProjectError, WeakFloatError
from edgec.model.spec import TensorSpec
from edgec.project.spec import Gates
from edgec.verify.metrics import choose_metric
from edgec.verify.weak_float import TopOne, refuse_inaccurate, top_one, weakness


def scores(predicted, classes):
    """Outputs of a model that predicts this."""
    return {"y": np.eye(classes, dtype=np.float32)[predicted][:, None]}


def metric_of(labels, classes, root, name="auto"):
    return choose_metric(name, (TensorSpec(name="y", shape=(1, classes)),), labels, root)


def never():
    raise AssertionError("calibration samples are run only where the answer may matter")


def told(predicted, labels, classes, root, calibrated=lambda: None):
    return weakness(metric_of(labels, classes, root), scores(predicted, classes), calibrated)


def test_classes_that_trade_places_are_chance(tmp_path):
    # red and blue swapped: of three colours one is right, and every prediction is sure
    labels = np.arange(360) % 3
    found = told(np.array([2, 1, 0])[labels], labels, 3, tmp_path, never)
    assert "33.3 % (120 of 360, 95 % interval 28.7 to 38.4 %), and chance is 33.3 %" in found


def test_labels_in_another_order_are_below_chance(tmp_path):
    labels = np.arange(200) % 10
    assert "0.0 % (0 of 200" in told((labels + 1) % 10, labels, 10, tmp_path)


def test_one_class_for_all_is_chance_whatever_its_share(tmp_path):
    labels = (np.arange(1000) % 10 == 0).astype(np.int64)
    assert "90.0 % (900 of 1000" in told(np.zeros(1000, int), labels, 2, tmp_path)
    # as many are right, but one label in two of the rarer class is found: that is no chance
    better = np.where(np.arange(1000) % 20 == 0, 1, 0) | (np.arange(1000) % 20 == 1)
    assert told(better, labels, 2, tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "samples", "classes", "weak"),
    [
        (33, 100, 3, True),
        (16, 48, 3, True),
        (4, 12, 3, False),  # 14 to 61 %
        (5, 10, 2, False),
        (50, 100, 2, True),
        (62, 100, 2, False),
        (150, 1000, 10, True),  # above chance for sure, and hardly
        (250, 1000, 10, False),
        (60, 100, 10, False),
        (20, 2000, 1000, False),  # ten times chance
        (2, 2000, 1000, True),
        (0, 40, 1000, True),
    ],
)
def test_near_chance(right, samples, classes, weak):
    assert TopOne(right, samples, 1 / classes).near_chance is weak


def test_a_single_label_is_no_chance(tmp_path):
    labels = np.full(100, 3)
    assert told(np.full(100, 3), labels, 10, tmp_path) == ""
    assert "chance is 10.0 %" in told(np.arange(100) % 10, labels, 10, tmp_path)


def test_far_below_calibration(tmp_path):
    labels = np.arange(300) % 10
    some = np.where(np.arange(300) % 5 < 2, labels, (labels + 1) % 10)  # 40 %
    known = np.arange(128) % 10
    same = np.arange(128) % 10
    found = told(some, labels, 10, tmp_path, lambda: (scores(same, 10), known, 1))
    assert "40.0 % (120 of 300" in found
    assert "on calibration samples 100.0 % (128 of 128" in found
    assert told(some, labels, 10, tmp_path, lambda: (scores(np.where(same % 2, same, 0), 10), known, 1)) == ""
    assert told(some, labels, 10, tmp_path, lambda: (scores(same, 10), np.eye(10)[known], 1)) == ""  # no class labels
    most = np.where(np.arange(300) % 5 < 4, labels, (labels + 1) % 10)
    assert told(most, labels, 10, tmp_path, never) == ""


def test_entries_of_a_run_are_taken_apart():
    predicted = np.arange(12) % 3
    runs = {"y": scores(predicted, 3)["y"].reshape(4, 3, 3)}
    assert top_one(runs, predicted, 3) == TopOne(12, 12, pytest.approx(1 / 3))


def test_other_metrics_have_no_chance(tmp_path):
    zeros = scores(np.zeros(100, int), 3)
    assert weakness(metric_of(None, 3, tmp_path), zeros, never) == ""
    assert weakness(metric_of(np.arange(100) % 3, 3, tmp_path, "agreement"), zeros, never) == ""


def test_min_accuracy_of_float(tmp_path):
    labels = np.arange(100) % 4
    reference = scores(np.where(np.arange(100) < 90, labels, (labels + 1) % 4), 4)
    metric = metric_of(labels, 4, tmp_path)
    for enough in (None, 90, 0.9, 89.5):
        refuse_inaccurate(Gates(min_accuracy=enough), metric, reference)
    for more in (90.5, 0.91, 1):
        with pytest.raises(WeakFloatError, match=r"top1 is 90 % on 100 evaluation samples, below min_accuracy"):
            refuse_inaccurate(Gates(min_accuracy=more), metric, reference)


@pytest.mark.parametrize("name", ["agreement", "sqnr"])
def test_min_accuracy_needs_an_accuracy(tmp_path, name):
    metric = metric_of(np.arange(6) % 3, 3, tmp_path, name)
    with pytest.raises(ProjectError, match=f'the metric is "{name}"'):
        refuse_inaccurate(Gates(min_accuracy=0.5), metric, scores(np.arange(6) % 3, 3))


def test_min_accuracy_of_a_metric_of_the_users(tmp_path):
    (tmp_path / "m.py").write_text("def score(outputs, labels):\n    return 12.5\n")
    metric = metric_of(None, 3, tmp_path, "m.py:score")
    reference = scores(np.arange(6) % 3, 3)
    refuse_inaccurate(Gates(min_accuracy=12), metric, reference)
    with pytest.raises(WeakFloatError, match=r"m\.py:score is 12\.5 on 6 evaluation samples, below min_accuracy 13\n"):
        refuse_inaccurate(Gates(min_accuracy=13), metric, reference)
