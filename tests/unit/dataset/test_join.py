"""Several sets of samples as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.dataset.join import join
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import DataSpec, Preprocess

INPUTS = (TensorSpec(name="x", shape=(1, 2)),)


def spooled(folder: Path, name: str, inputs: tuple[TensorSpec, ...] = INPUTS, **arrays: Array) -> Spool:
    np.savez(folder / f"{name}.npz", **arrays)
    return write_spool(
        DataSpec(data=f"{name}.npz"), Preprocess(), inputs, folder / name, folder,
        samples=None, seed=0, what="evaluation",
    )  # fmt: skip


def rows(start: int, count: int) -> Array:
    return np.arange(start, start + 2 * count, dtype=np.float32).reshape(count, 2)


def test_all_samples_are_there_and_spread(tmp_path: Path) -> None:
    one = spooled(tmp_path, "a", x=rows(0, 6), y=np.arange(6))
    two = spooled(tmp_path, "b", x=rows(100, 2), y=np.array([7, 8]))
    both = join(one, [two], tmp_path / "joined")
    assert [float(sample["x"][0, 0]) for sample in both] == [0, 2, 100, 4, 6, 8, 102, 10]
    assert both.labels is not None
    assert both.labels.tolist() == [0, 1, 7, 2, 3, 4, 8, 5]
    assert both.info.origin == "a.npz"
    assert both.info.notes[-1] == "2 further samples of b.npz"
    digests = {*one.sample_digests(), *two.sample_digests()}
    assert set(both.sample_digests()) == digests
    assert both.info.content_digest not in (one.info.content_digest, two.info.content_digest)


def test_labels_go_where_one_set_has_none(tmp_path: Path) -> None:
    one = spooled(tmp_path, "a", x=rows(0, 3), y=np.arange(3))
    assert join(one, [spooled(tmp_path, "b", x=rows(9, 1))], tmp_path / "joined").labels is None


def test_nothing_to_add(tmp_path: Path) -> None:
    one = spooled(tmp_path, "a", x=rows(0, 3))
    assert join(one, [], tmp_path / "joined") is one


def test_samples_one_by_one_and_whole_runs_do_not_mix(tmp_path: Path) -> None:
    inputs = (TensorSpec(name="x", shape=(2, 2)),)
    one = spooled(tmp_path, "a", inputs, x=rows(0, 4))
    two = spooled(tmp_path, "b", inputs, x=rows(0, 4).reshape(2, 2, 2))
    with pytest.raises(DatasetError, match=r"not of the form that those of a\.npz have"):
        join(one, [two], tmp_path / "joined")
