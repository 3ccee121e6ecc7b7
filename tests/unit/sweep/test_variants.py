"""Cells are variants that differ: what a level has no effect on is one cell, what no backend can make is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgec.errors import ProjectError, TargetError
from edgec.project.spec import Gates, Project
from edgec.sweep.variants import Levels, cells_of, mixed, reference_of
from edgec.target.load import ResolvedTarget, load_target

Small = tuple[Project, Path]


def with_target(root: Path, text: str) -> ResolvedTarget:
    (root / "targets").mkdir(exist_ok=True)
    (root / "targets" / "mine.toml").write_text(text)
    return load_target("mine", root)


def test_methods_multiply_int8_only(small_project: Small) -> None:
    project, root = small_project
    levels = Levels(precision=("fp32", "int8"), method=("minmax", "mse"))
    cells, unmade = cells_of(load_target("x86-64-vnni-int8", root), project, levels)
    assert [(cell.precision, cell.method) for cell in cells] == [("fp32", ""), ("int8", "minmax"), ("int8", "mse")]
    assert not unmade
    assert [cell.plan.target.quantize.calibration for cell in cells] == ["auto", "minmax", "mse"]


def test_levels_default_to_the_target_itself(small_project: Small) -> None:
    project, root = small_project
    (cell,), _ = cells_of(load_target("rpi4-int8-dynamic", root), project, Levels())
    assert (cell.target, cell.prune, cell.precision, cell.method) == ("rpi4-int8-dynamic", 0.0, "int8-dynamic", "")


def test_budgets_fallbacks_and_gates_do_not_apply(small_project: Small) -> None:
    project, root = small_project
    text = 'extends = "rpi4-int8"\n[quantize]\nfallback = "fp32"\nfloat_layers = ["head"]\n[budget]\nsize_kib = 1\n'
    resolved = with_target(root, text)
    strict = project.model_copy(update={"gates": Gates(max_drop=0.0)})
    cells, _ = cells_of(resolved, strict, Levels(precision=("int8", "fp32")))
    assert [cell.plan.target.budget.size_kib for cell in cells] == [None, None]
    assert [cell.plan.target.quantize.fallback for cell in cells] == [None, None]
    assert [cell.plan.target.quantize.float_layers for cell in cells] == [("head",), ()]
    assert {cell.plan.project.gates.max_drop for cell in cells} == {None}


def test_what_a_backend_cannot_make_is_reported_and_the_others_are_made(small_project: Small) -> None:
    project, root = small_project
    resolved = with_target(
        root, 'extends = "x86-64-int8"\n[[emit]]\nbackend = "onnxruntime"\n[[emit]]\nbackend = "example"\n'
    )
    cells, unmade = cells_of(resolved, project, Levels(precision=("int8", "fp16")))
    assert [[item.backend.name for item in cell.plan.emits] for cell in cells] == [
        ["onnxruntime", "example"],
        ["onnxruntime"],
    ]
    (one,) = unmade
    assert (one.precision, one.artifact, one.possible) == ("fp16", "example", False)
    assert one.reason

    alone = with_target(root, 'extends = "x86-64-int8"\n[[emit]]\nbackend = "example"\n')
    cells, unmade = cells_of(alone, project, Levels(precision=("fp16",)))
    assert not cells
    assert len(unmade) == 1


def test_wrong_names_in_the_target_are_errors_not_impossible_cells(small_project: Small) -> None:
    project, root = small_project
    resolved = with_target(root, 'extends = "x86-64-int8"\n[[emit]]\nbackend = "onnxruntim"\n')
    with pytest.raises(TargetError, match='no backend is called "onnxruntim"'):
        cells_of(resolved, project, Levels())


def test_a_level_that_no_target_may_have(small_project: Small) -> None:
    project, root = small_project
    with pytest.raises(TargetError, match=r"prune\.amount"):
        cells_of(load_target("x86-64-int8", root), project, Levels(prune=(0.99,)))


def test_what_the_project_lacks_is_reported_before_anything_runs(small_project: Small) -> None:
    project, root = small_project
    bare = project.model_copy(update={"calibration": None})
    with pytest.raises(ProjectError, match="calibration data"):
        cells_of(load_target("x86-64-int8", root), bare, Levels())


def test_the_reference_is_the_unpruned_float_cell(small_project: Small) -> None:
    project, root = small_project
    resolved = with_target(root, 'extends = "x86-64-int8"\n[prune]\namount = 0.5\nwithout_training = true\n')
    reference = reference_of(resolved, project)
    assert reference is not None
    assert reference.reference
    cells, _ = cells_of(resolved, project, Levels(prune=(0.0, 0.5), precision=("fp32",)))
    assert [cell.plan.target == reference.plan.target for cell in cells] == [True, False]


def test_cells_that_share_a_pruned_model_are_far_apart(small_project: Small) -> None:
    project, root = small_project
    resolved = with_target(root, 'extends = "x86-64-int8"\n[prune]\nwithout_training = true\n')
    cells, _ = cells_of(resolved, project, Levels(prune=(0.3, 0.5), precision=("fp32", "fp16", "int8")))
    assert [cell.prune for cell in cells] == [0.3, 0.3, 0.3, 0.5, 0.5, 0.5]
    assert [cell.prune for cell in mixed(cells)] == [0.3, 0.5, 0.3, 0.5, 0.3, 0.5]
