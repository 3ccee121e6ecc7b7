"""The chosen point becomes a target that loads, has its levels, and takes no other target's place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgec.errors import TargetError, UsageError
from edgec.sweep.records import Point
from edgec.sweep.save import own_file, save_target, swept_targets
from edgec.target.load import load_target
from edgec.target.spec import Emit


def test_it_loads_with_the_points_levels(tmp_path: Path, make_point: Callable[..., Point]) -> None:
    file = own_file("mine", tmp_path)
    emit = Emit(backend="tflite", runtimes=("ai-edge-litert",))
    save_target(file, make_point(target="rpi4-int8", prune=0.3, method="mse"), emit, 'min latency # "x"', tmp_path)
    target = load_target("mine", tmp_path).target
    assert (target.precision, target.quantize.calibration, target.prune.amount) == ("int8", "mse", 0.3)
    assert target.emit == (emit,)
    assert target.device.name == "rpi4"

    save_target(
        own_file("mine", tmp_path), make_point(target="rpi4-int8", precision="fp16", method=""), emit, "", tmp_path
    )
    assert load_target("mine", tmp_path).target.precision == "fp16"


def test_layers_that_stay_in_float_are_no_matter_of_other_precisions(
    tmp_path: Path, make_point: Callable[..., Point]
) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "base.toml").write_text('extends = "rpi4-int8"\n[quantize]\nfloat_layers = ["head"]\n')
    for precision, kept in (("fp32", ()), ("int8", ("head",))):
        point = make_point(target="base", precision=precision, method="minmax" if kept else "")
        save_target(own_file("mine", tmp_path), point, Emit(backend="tflite"), "min size", tmp_path)
        assert load_target("mine", tmp_path).target.quantize.float_layers == kept


@pytest.mark.parametrize(("name", "reported"), [("Not A Name", "not a valid name"), ("rpi4-int8", "already")])
def test_names_that_are_refused(tmp_path: Path, name: str, reported: str) -> None:
    with pytest.raises(TargetError, match=reported):
        own_file(name, tmp_path)


def test_the_users_own_targets_are_kept(tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text('extends = "rpi4-int8"\n')
    with pytest.raises(TargetError, match="already"):
        own_file("mine", tmp_path)


def test_globs_leave_out_what_sweeps_have_written(tmp_path: Path, make_point: Callable[..., Point]) -> None:
    save_target(own_file("rpi4-best", tmp_path), make_point(target="rpi4-int8"), Emit(backend="tflite"), "", tmp_path)
    names = ("rpi4-best", "rpi4-int8")
    assert swept_targets(names, ("rpi4-*",), tmp_path) == ("rpi4-int8",)
    assert swept_targets(names, ("rpi4-*", "rpi4-best"), tmp_path) == names


def test_what_is_swept_and_what_it_extends_are_not_replaced(tmp_path: Path, make_point: Callable[..., Point]) -> None:
    save_target(own_file("best", tmp_path), make_point(target="rpi4-int8"), Emit(backend="tflite"), "", tmp_path)
    (tmp_path / "targets" / "mine.toml").write_text('extends = "best"\n')
    with pytest.raises(UsageError, match='"best" is swept'):
        own_file("best", tmp_path, ("rpi4-int8", "best"))
    with pytest.raises(UsageError, match='"best" is extended by "mine"'):
        own_file("best", tmp_path, ("mine",))
    assert own_file("best", tmp_path, ("rpi4-int8",)).exists()


def test_a_point_that_is_no_target_replaces_nothing(tmp_path: Path, make_point: Callable[..., Point]) -> None:
    file, emit = own_file("best", tmp_path), Emit(backend="tflite")
    save_target(file, make_point(target="rpi4-int8", prune=1 / 3), emit, "", tmp_path)
    assert load_target("best", tmp_path).target.prune.amount == 1 / 3
    before = file.read_bytes()
    with pytest.raises(TargetError):
        save_target(file, make_point(target="rpi4-int8", prune=2.0), emit, "", tmp_path)
    assert file.read_bytes() == before
