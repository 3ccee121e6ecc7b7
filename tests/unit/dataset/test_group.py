"""Models with a fixed batch: single samples are grouped, entries of the full shape are taken as they are."""

from pathlib import Path

import numpy as np
import pytest

from edgec.dataset.leak import check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.errors import DataLeakError, DatasetError
from edgec.model.spec import TensorSpec
from edgec.project.flags import _input
from edgec.project.spec import DataSpec, Preprocess

FOUR = (TensorSpec(name="x", shape=(4, 3, 2)),)


def spool(root: Path, inputs: tuple[TensorSpec, ...], what: Purpose = "evaluation", **arrays: np.ndarray) -> Spool:
    np.savez(root / f"{what}.npz", **arrays)
    spec = DataSpec(data=f"{what}.npz")
    return write_spool(spec, Preprocess(), inputs, root / what, root, samples=None, seed=0, what=what)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(10, 3, 2)).astype(np.float32)


def test_single_samples_are_grouped_in_order(tmp_path, x):
    made = spool(tmp_path, FOUR, x=x, y=np.arange(10))
    assert len(made) == 2
    assert made.info.group == 4
    assert np.array_equal(made[1]["x"], x[4:8])
    assert made.labels is not None
    assert made.labels.tolist() == list(range(8))
    assert "4 samples make a run" in made.info.notes[1]
    assert "the last 2 of 10 evaluation samples are left out" in made.info.notes[2]


def test_entries_of_the_full_shape_are_runs(tmp_path, x):
    made = spool(tmp_path, FOUR, x=x[:8].reshape(2, 4, 3, 2))
    assert made.info.group == 1
    assert np.array_equal(made[1]["x"], x[4:8])


def test_several_inputs_are_grouped_together_or_not_at_all(tmp_path, x):
    two = (*FOUR, TensorSpec(name="t", shape=(4, 1)))
    made = spool(tmp_path, two, x=x, t=np.arange(10, dtype=np.float32))
    assert made[1]["t"].tolist() == [[4], [5], [6], [7]]
    state = (*FOUR, TensorSpec(name="h", shape=(2, 4, 5)))
    with pytest.raises(DatasetError, match=r"some inputs are given as single samples.*\"h\" takes \[2, 4, 5\]"):
        spool(tmp_path, state, x=x, h=np.zeros((10, 2, 4, 5), np.float32))


def test_a_batch_axis_that_is_not_the_first(tmp_path, x):
    inputs = (TensorSpec(name="x", shape=(1, 3, 2)), TensorSpec(name="h", shape=(4, 1, 5)))
    state = np.random.default_rng(1).normal(size=(10, 4, 1, 5)).astype(np.float32)
    made = spool(tmp_path, inputs, x=x, h=state)
    assert len(made) == 10
    assert np.array_equal(made[3]["h"], state[3])


def test_scalars(tmp_path):
    made = spool(tmp_path, (TensorSpec(name="t", shape=()),), t=np.arange(5, dtype=np.float32))
    assert [sample["t"].shape for sample in made] == [()] * 5
    assert made[3]["t"] == 3
    assert _input("t::float32") == {"name": "t", "shape": [], "dtype": "float32"}


def test_too_few_samples_for_a_run(tmp_path, x):
    with pytest.raises(DatasetError, match="the evaluation data has 3 samples, and the model takes 4 at once"):
        spool(tmp_path, FOUR, x=x[:3])


def test_leaks_are_found_by_sample(tmp_path, x):
    calibration = spool(tmp_path, FOUR, "calibration", x=x[:8])
    with pytest.raises(DataLeakError, match=r"3 of 8 calibration samples .*5 = 0, 6 = 1, 7 = 2"):
        check_disjoint(calibration, spool(tmp_path, FOUR, x=np.concatenate([x[5:], x[9:] + 1])))
    many = np.random.default_rng(1).normal(size=(400, 3, 2)).astype(np.float32)
    stray = spool(tmp_path, FOUR, "calibration", x=many)
    kept = check_disjoint(stray, spool(tmp_path, FOUR, x=np.concatenate([many[:1], x[:7]])))
    assert (len(kept), kept.info.group) == (99, 4)
    assert not any((sample["x"] == many[0]).all(axis=(1, 2)).any() for sample in kept)
