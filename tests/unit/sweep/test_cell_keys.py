"""A key changes with whatever may change a cell, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import DatasetError, ModelError
from edgec.project.spec import BuildSpec, Gates, Project, TrainSpec
from edgec.sweep.keys import Keys
from edgec.sweep.variants import Levels, cells_of
from edgec.target.load import load_target

Small = tuple[Project, Path]


def key(project: Project, root: Path, name: str = "x86-64-int8", threads: int = 1, levels: Levels | None = None) -> str:
    (cell,), _ = cells_of(load_target(name, root), project, levels or Levels())
    return Keys(root, threads).key(cell.plan)


def test_equal_variants_of_two_targets_are_one_cell(small_project: Small) -> None:
    project, root = small_project
    as_fp32 = key(project, root, "x86-64-vnni-int8", levels=Levels(precision=("fp32",)))
    assert as_fp32 == key(project, root, "x86-64-vnni-fp32")
    assert as_fp32 != key(project, root, "x86-64-fp32")  # another device


def test_what_does_not_matter(small_project: Small) -> None:
    project, root = small_project
    before = key(project, root)
    changed = project.model_copy(
        update={"gates": Gates(max_drop=3.0), "build": BuildSpec(out="elsewhere", time_budget=5.0, targets=("a",))}
    )
    assert key(changed, root) == before
    (root / "notes.txt").write_text("unrelated")
    (root / ".venv" / "lib").mkdir(parents=True)
    (root / ".venv" / "lib" / "other.py").write_text("x = 1")
    (root / "env").mkdir()
    (root / "env" / "pyvenv.cfg").touch()
    (root / "env" / "other.py").write_text("x = 1")
    assert key(project, root) == before


def test_what_was_built_does_not_matter(small_project: Small) -> None:
    project, root = small_project
    (cell,), _ = cells_of(load_target("x86-64-int8", root), project, Levels())
    before = Keys(root, 1, root / "dist").key(cell.plan)
    for bundle in (root / "earlier" / "one", root / "dist" / "two"):
        (bundle / "bench").mkdir(parents=True)
        (bundle / "bench" / "bench.py").write_text("x = 1")
        (bundle / "manifest.json").write_text("{}")
    (root / "dist" / "other").mkdir()
    (root / "dist" / "other" / "left.py").write_text("x = 1")
    assert Keys(root, 1, root / "dist").key(cell.plan) == before
    (root / "dist").rename(root / "source")  # a folder without a manifest, outside the folder of bundles
    assert Keys(root, 1, root / "dist").key(cell.plan) != before


@pytest.mark.parametrize("name", ["calibration.npz", "evaluation.npz", "model.pt", "model.py", "blocks.py"])
def test_every_file_counts_by_its_content(small_project: Small, name: str) -> None:
    project, root = small_project
    before, content = key(project, root), (root / name).read_bytes()
    (root / name).write_bytes(content + b"\n")
    assert key(project, root) != before
    (root / name).write_bytes(content)
    assert key(project, root) == before


def test_calibration_data_counts_only_where_it_is_used(small_project: Small) -> None:
    project, root = small_project
    fp32 = Levels(precision=("fp32",))
    before = key(project, root, levels=fp32), key(project, root)
    (root / "calibration.npz").write_bytes(b"other")
    assert key(project, root, levels=fp32) == before[0]
    assert key(project, root) != before[1]


def test_training_data_counts_only_where_it_may_be_used(small_project: Small) -> None:
    project, root = small_project
    (root / "training.npz").write_bytes(b"t")
    fp32 = Levels(precision=("fp32",))
    trainable = project.model_copy(update={"train": TrainSpec(data="training.npz")})
    assert key(trainable, root, levels=fp32) == key(project, root, levels=fp32)
    assert key(trainable, root) != key(project, root)
    pruned = Levels(precision=("fp32",), prune=(0.5,))
    before = key(trainable, root, levels=pruned)
    (root / "training.npz").write_bytes(b"u")
    assert key(trainable, root, levels=pruned) != before


def test_seed_threads_and_search_count(small_project: Small) -> None:
    project, root = small_project
    keys = {key(project, root), key(project, root, threads=2)}
    for build in (BuildSpec(seed=1), BuildSpec(effort="fast")):
        keys.add(key(project.model_copy(update={"build": build}), root))
    assert len(keys) == 4


def test_missing_files_are_told_at_once(small_project: Small) -> None:
    project, root = small_project
    (root / "evaluation.npz").rename(root / "evaluation_1.npz")
    with pytest.raises(DatasetError, match=r"evaluation\.npz.*no such file(.|\n)*evaluation_1"):
        key(project, root)
    (root / "model.pt").unlink()
    with pytest.raises((ModelError, DatasetError)):
        key(project, root)


def test_entries_above_the_project(small_project: Small) -> None:
    project, root = small_project
    inner = root / "inner"
    inner.mkdir()
    above = project.model_copy(
        update={
            "model": project.model.model_copy(update={"path": "../model.py:Net", "weights": "../model.pt"}),
            "calibration": None,
            "evaluation": project.evaluation and project.evaluation.model_copy(update={"data": "../evaluation.npz"}),
        }
    )
    fp32 = Levels(precision=("fp32",))
    before = key(above, inner, levels=fp32)
    (root / "blocks.py").write_text("x = 1")
    assert key(above, inner, levels=fp32) != before
