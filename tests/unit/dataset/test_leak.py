"""Samples that calibration and evaluation share are refused, or left out when they are stray duplicates."""

import numpy as np
import pytest

from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.write import write_spool
from edgec.errors import DataLeakError, LabelsError
from edgec.model.spec import TensorSpec
from edgec.project.spec import DataSpec, Preprocess

INPUTS = (TensorSpec(name="v", shape=(1, 5)),)


def spools(root, calibration, evaluation):
    made = []
    for what, x in (("calibration", calibration), ("evaluation", evaluation)):
        np.savez(root / f"{what}.npz", x=x, y=np.arange(len(x)) % 2)
        spec = DataSpec(data=f"{what}.npz")
        made.append(write_spool(spec, Preprocess(), INPUTS, root / what, root, samples=None, seed=0, what=what))
    return made


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(300, 5)).astype(np.float32)


def test_disjoint_sets_pass_unchanged(tmp_path, x):
    calibration, evaluation = spools(tmp_path, x[:100], x[100:])
    assert check_disjoint(calibration, evaluation) is calibration


def test_shared_samples_are_refused_with_their_places(tmp_path, x):
    calibration, evaluation = spools(tmp_path, x[:20], x[18:])
    with pytest.raises(DataLeakError, match=r"2 of 20 calibration samples .*: 18 = 0, 19 = 1\)"):
        check_disjoint(calibration, evaluation)


def test_the_same_file_twice_is_refused(tmp_path, x):
    calibration, evaluation = spools(tmp_path, x, x)
    with pytest.raises(DataLeakError, match="300 of 300"):
        check_disjoint(calibration, evaluation)


def test_a_stray_duplicate_is_left_out_and_told(tmp_path, x):
    calibration, evaluation = spools(tmp_path, x[:150], x[149:])
    clean = check_disjoint(calibration, evaluation)
    assert len(clean) == 149
    assert 149 not in clean.source_indices()
    for sample, label, index in zip(clean, clean.labels, clean.source_indices(), strict=True):
        assert np.array_equal(sample["v"][0], x[index])
        assert label == index % 2
    assert "1 of 150" in clean.info.notes[-1]
    assert clean.info.content_digest != calibration.info.content_digest
    assert check_disjoint(clean, evaluation) is clean


def test_class_folders_must_be_the_same_in_both_sets(tmp_path):
    made = {}
    for what, classes in (("calibration", "abc"), ("evaluation", "abc"), ("renamed", "abd"), ("fewer", "bc")):
        for name in classes:
            (tmp_path / what / name).mkdir(parents=True)
            np.save(tmp_path / what / name / "1.npy", np.full(5, ord(name), np.float32))
        made[what] = write_spool(
            DataSpec(data=what), Preprocess(), INPUTS, tmp_path / "spools" / what, tmp_path,
            samples=None, seed=0, what="evaluation",
        )  # fmt: skip
    check_classes(made["calibration"], made["evaluation"])
    with pytest.raises(LabelsError, match="c, d"):
        check_classes(made["calibration"], made["renamed"])
    with pytest.raises(LabelsError, match=": a"):
        check_classes(made["calibration"], made["fewer"])
