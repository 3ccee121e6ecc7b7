"""How outputs of one artifact are judged on new samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.model.spec import Array
from edgec.validate.quality import Judge, sample_sqnr
from edgec.validate.records import RunResult
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs

RUN = RunResult(bundle="b", target="t", artifact="a", precision="int8", runtime="r")
LABELS = np.array([0, 0, 1, 1])


def scores(*classes: int) -> Outputs:
    return {"o": 2.0 * np.eye(2, dtype=np.float32)[list(classes)][:, None] + 1}


def judge(labels: Array | None, reference: Outputs | None, *, is_float: bool = True) -> Judge:
    return Judge(
        metric=Metric("agreement" if labels is None else "top1", labels, Path(), unit="class"),
        classes=("cat", "dog"),
        places=("a.png", "b.png", "c.png", "d.png"),
        indices=np.array([0, 1, 2, 3]),
        reference=reference,
        is_float=is_float,
        most=2,
        left={"a": np.array([3, 0, -1, 0])},
    )


def test_labels_and_a_float_model() -> None:
    found = judge(LABELS, scores(0, 0, 1, 0)).judge(RUN, scores(0, 1, 1, 0))
    assert found.value == 50.0
    assert found.paired is not None
    assert (found.paired.float_value, found.paired.drop) == (75.0, 25.0)
    assert found.agreement is not None
    assert found.agreement.value == 0.75
    cat, dog = found.classes
    assert (cat.label, cat.samples, cat.value, cat.float_value, cat.agreement) == ("cat", 2, 50.0, 100.0, 50.0)
    assert (dog.label, dog.value, dog.float_value, dog.agreement) == ("dog", 50.0, 50.0, 100.0)
    (worst,) = found.worst  # the others are equal
    assert (worst.index, worst.place, worst.label) == (1, "b.png", "cat")
    assert (worst.expected, worst.predicted, worst.layers) == ("cat", "dog", 0)


def test_without_labels_classes_are_the_references() -> None:
    found = judge(None, scores(0, 0, 1, 0), is_float=False).judge(RUN, scores(0, 1, 1, 0))
    assert (found.value, found.paired) == (None, None)
    assert [(one.label, one.value, one.samples) for one in found.classes] == [("cat", None, 3), ("dog", None, 1)]
    assert found.classes[0].agreement == pytest.approx(100 * 2 / 3)


def test_without_anything_to_compare_with() -> None:
    found = judge(LABELS, None).judge(RUN, scores(0, 0, 1, 0))
    assert (found.value, found.agreement, found.fidelity, found.worst) == (75.0, None, (), ())
    assert found.interval is not None
    assert found.interval.low < 0.75 < found.interval.high


def test_the_reference_is_not_compared_with_itself() -> None:
    reference = scores(0, 0, 1, 0)
    found = judge(LABELS, reference).judge(RUN.model_copy(update={"role": "float"}), reference)
    assert (found.value, found.agreement, found.worst) == (75.0, None, ())


def test_other_outputs_are_judged_by_sqnr() -> None:
    metric = Metric("sqnr", None, Path())
    reference = {"o": np.array([[[1.0, 2.0]], [[3.0, 4.0]]])}
    found = replace(judge(None, reference), metric=metric).judge(RUN, {"o": np.array([[[1.0, 2.0]], [[3.0, 4.5]]])})
    assert (found.value, found.agreement, found.classes) == (None, None, ())
    assert [item.index for item in found.worst] == [1]
    assert found.fidelity[0].sqnr_db == pytest.approx(10 * np.log10(30 / 0.25))


def test_sqnr_of_each_sample() -> None:
    wanted = {"a": np.array([[1.0], [1.0], [1.0], [0.0]]), "b": np.ones((4, 1))}
    given = {"a": np.array([[1.0], [0.9], [np.nan], [1.0]]), "b": np.ones((4, 1))}
    assert sample_sqnr(wanted, given).tolist() == [np.inf, pytest.approx(20.0), -np.inf, -np.inf]
