"""The straight line of a build, with the NumPy backend: its events, its lock, and what a refused build leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.build.api import Bundle
from edgec.build.build import build_target
from edgec.build.events import ArtifactsMeasured, InputsRead, ProblemFound
from edgec.build.inputs import shared_inputs
from edgec.build.options import BuildOptions
from edgec.bundle.check import check_digests
from edgec.errors import GateError, LockError
from edgec.events import Event, Step
from edgec.lock.file import LOCK
from edgec.lock.follow import LockUse
from edgec.plan.plan import Plan, make_plan
from edgec.project.load import load_project
from edgec.target.load import load_target

NET = """
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
"""
PROJECT = """
[model]
path = "net.py:net"
inputs = [{name = "x", shape = [1, 6]}]
[calibration]
data = "calibration.npz"
[evaluation]
data = "evaluation.npz"
"""
TARGET = """
extends = "rpi4-int8"
[[emit]]
backend = "example"
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "edgec.toml").write_text(PROJECT)
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "small.toml").write_text(TARGET)
    generator = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        np.savez(tmp_path / f"{name}.npz", x=generator.normal(size=(64, 1, 6)).astype(np.float32))
    return tmp_path


def plan_of(root: Path, **settings: Any) -> Plan:
    values = {tuple(key.split("__")): value for key, value in settings.items()}
    return make_plan(load_target("small", root), load_project(root, values))  # type: ignore[arg-type]


def build(root: Path, options: BuildOptions | None = None, **settings: Any) -> tuple[Bundle, list[Event]]:
    events: list[Event] = []
    return build_target(plan_of(root, **settings), root, options or BuildOptions(jobs=1), events.append), events


def test_events_in_the_order_of_the_build(root: Path) -> None:
    bundle, events = build(root)
    check_digests(bundle.path)
    kinds = [type(event) for event in events if not isinstance(event, Step)]
    assert kinds[0] is InputsRead
    assert kinds[-1] is ArtifactsMeasured
    assert set(kinds[1:-1]) <= {ProblemFound}
    steps = [event.text for event in events if isinstance(event, Step)]
    order = ["load net.py:net", "read evaluation samples", "run the float model", "write the bundle"]
    places = [next(index for index, step in enumerate(steps) if step.startswith(begin)) for begin in order]
    assert places == sorted(places)
    assert {path.name for path in bundle.dependencies} >= {"net.py", "edgec.toml", "small.toml", "evaluation.npz"}


def test_the_second_build_follows_the_lock_and_has_the_same_bytes(root: Path) -> None:
    first, _ = build(root)
    manifest = (first.path / "manifest.json").read_bytes()
    second, events = build(root, BuildOptions(jobs=1, lock=LockUse(locked=True), check_reproducible=True))
    assert (second.path / "manifest.json").read_bytes() == manifest
    assert second.reproduced is not None
    assert any(isinstance(event, Step) and event.text == "build it again, to compare" for event in events)


def test_a_build_that_must_follow_a_missing_lock_makes_nothing(root: Path) -> None:
    with pytest.raises(LockError, match=f"there is no {LOCK}"):
        build(root, BuildOptions(lock=LockUse(locked=True)))
    assert not (root / "dist").exists()


def test_missed_gates_leave_no_bundle_of_an_earlier_build(root: Path) -> None:
    bundle, _ = build(root)
    with pytest.raises(GateError, match="not met, so no bundle was written"):
        build(root, gates__min_sqnr_db=200.0)
    assert not bundle.path.exists()
    left = [path.name for path in (root / "dist" / ".work").iterdir() if path.name.startswith("stage-")]
    assert left == []


def test_inputs_that_targets_share_are_read_once(root: Path) -> None:
    plan, events = plan_of(root), list[Event]()
    with shared_inputs([plan, plan], root, threads=1, subscriber=events.append) as inputs:
        build_target(plan, root, BuildOptions(jobs=1), events.append, inputs["small"])
    steps = [event.text for event in events if isinstance(event, Step)]
    assert steps.count("load net.py:net") == 1
    assert sum(step.startswith("run the float model") for step in steps) == 1
