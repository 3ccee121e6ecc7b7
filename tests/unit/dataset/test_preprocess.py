"""Shapes that fit, and those that do not."""

import numpy as np
import pytest

from edgec.dataset.preprocess import fit_shape, is_channels_last, to_input
from edgec.errors import DatasetError
from edgec.model.spec import TensorSpec
from edgec.project.spec import Preprocess


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [((28, 28), (1, 1, 28, 28)), ((28, 28, 1), (1, 1, 28, 28)), ((1, 16, 8), (16, 1, 8)), ((), (1,)), ((7,), (7,))],
)
def test_singleton_axes_come_and_go(stored, wanted):
    array = np.arange(np.prod(stored, dtype=int), dtype=np.float32).reshape(stored)
    fitted = fit_shape(array, TensorSpec(name="x", shape=wanted))
    assert fitted.shape == wanted
    assert np.array_equal(fitted.reshape(-1), array.reshape(-1))


def test_channels_move_only_when_the_sample_is_channels_last():
    spec = TensorSpec(name="x", shape=(1, 3, 8, 6))
    array = np.random.default_rng(0).random((8, 6, 3))
    assert np.array_equal(fit_shape(array, spec)[0], array.transpose(2, 0, 1))
    assert np.array_equal(fit_shape(array[None], spec)[0], array.transpose(2, 0, 1))
    assert not is_channels_last((3, 8, 6), (1, 3, 8, 6))
    with pytest.raises(DatasetError):
        fit_shape(array.transpose(1, 0, 2), spec)
    with pytest.raises(DatasetError):
        fit_shape(array.transpose(2, 0, 1), TensorSpec(name="x", shape=(1, 8, 6, 3)))


def test_constants_go_along_the_channel_axis_of_either_layout():
    preprocess = Preprocess(mean=(1.0, 2.0, 3.0))
    for shape, axis in (((1, 3, 2, 2), 1), ((1, 2, 2, 3), 3)):
        got = to_input(np.zeros(shape, np.float32), TensorSpec(name="x", shape=shape), preprocess, ready=False)
        assert np.moveaxis(got, axis, 0).reshape(3, -1).mean(axis=1).tolist() == [-1, -2, -3]
