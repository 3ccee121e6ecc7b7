"""What a bundle keeps of its ranges, and when a sample leaves one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgec.backends.interface import ActivationRange
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import DataSpec, Preprocess
from edgec.verify.ranges import (
    LEAST_SAMPLES,
    MOST_SAMPLES,
    input_ranges,
    input_uses,
    leaving,
    observed_indices,
    range_record,
    unwatched_inputs,
)

RANGES = (ActivationRange(tensor="a", low=0, high=1), ActivationRange(tensor="b", low=-1, high=1))


def uses(outside: Array, levels: Array) -> Array:
    return np.stack([outside, levels], axis=-1)


def test_limits_are_what_is_usual_and_shares_are_measured_on_other_samples() -> None:
    outside = np.zeros((200, 2))
    outside[:, 1] = 0.3  # saturates by design, in every sample
    outside[1:20:2, 0] = 0.01  # ten of the hundred that are measured
    found = range_record(RANGES, uses(outside, np.full((200, 2), 0.5)), runtime="r")
    assert [layer.limit for layer in found.layers] == [0.0, 0.3]
    assert [layer.outside for layer in found.layers] == [0.1, 0.0]
    assert (found.outside, found.samples, found.runtime) == (0.1, 200, "r")
    assert [(layer.level, layer.spread) for layer in found.layers] == [(0.5, 0.0)] * 2


def test_a_sample_leaves_a_range_by_more_than_is_usual() -> None:
    found = range_record(RANGES, uses(np.tile([0.0, 0.3], (200, 1)), np.zeros((200, 2))), runtime="r")
    seen = leaving(found, uses(np.array([[0.0, 0.3], [0.001, 0.3], [0.0, 0.31]]), np.zeros((3, 2))))
    assert seen.tolist() == [[False, False], [True, False], [False, True]]


def test_one_outlier_of_the_evaluation_set_does_not_hide_others() -> None:
    outside = np.zeros((400, 1))
    outside[0] = 0.9
    assert range_record(RANGES[:1], uses(outside, outside), runtime="r").layers[0].limit == 0.0


def test_a_single_sample_and_no_ranges() -> None:
    assert range_record(RANGES, uses(np.ones((1, 2)), np.ones((1, 2))), runtime="r").outside == 0.0
    assert range_record((), np.zeros((5, 0, 2)), runtime="").layers == ()


def spooled(folder: Path, x: Array, shape: tuple[int, ...]) -> Spool:
    folder.mkdir(exist_ok=True)
    np.savez(folder / "d.npz", x=x)
    inputs = (TensorSpec(name="x", shape=shape),)
    return write_spool(
        DataSpec(data="d.npz"), Preprocess(), inputs, folder / "s", folder, samples=None, seed=0, what="evaluation"
    )


def test_inputs_have_the_range_of_their_samples(tmp_path: Path) -> None:
    known = spooled(tmp_path / "a", np.array([[0, 1], [-1, 3]], np.float32), (1, 2))
    ranges = input_ranges(known)
    assert [(item.tensor, item.low, item.high, item.input) for item in ranges] == [("input x", -1, 3, "x")]
    new = spooled(tmp_path / "b", np.array([[0, 4], [1, 1]], np.float32), (1, 2))
    assert input_uses(ranges, new, [0, 1])[:, 0].tolist() == [[0.5, 0.75], [0.0, 0.5]]
    assert unwatched_inputs(ranges, [ActivationRange(tensor="i", low=0, high=1, input="x")]) == ()
    assert unwatched_inputs(ranges, RANGES) == ranges


def test_few_large_samples_are_looked_at_and_spread_over_the_set(tmp_path: Path) -> None:
    small = spooled(tmp_path / "a", np.zeros((300, 2), np.float32), (1, 2))
    found = observed_indices(small)
    assert (len(found), found[0], found[-1]) == (MOST_SAMPLES, 0, 298)
    large = spooled(tmp_path / "b", np.zeros((40, 2), np.float32), (1, 2))
    object.__setattr__(large, "info", large.info.model_copy(update={"inputs": (TensorSpec(name="x", shape=(10**9,)),)}))
    assert len(observed_indices(large)) == LEAST_SAMPLES
