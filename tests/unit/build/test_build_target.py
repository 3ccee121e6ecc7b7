"""The straight line of a build, with the NumPy backend: its events, its lock, and what a refused build leaves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_project import NET, TARGET, write_example_project

from edgec.build.api import Bundle
from edgec.build.build import build_target
from edgec.build.events import ArtifactsMeasured, InputsRead, ProblemFound
from edgec.build.inputs import shared_inputs
from edgec.build.options import BuildOptions
from edgec.build.unchanged import unchanged
from edgec.bundle.check import check_digests
from edgec.errors import GateError, LockError
from edgec.events import Event, Step
from edgec.lock.file import LOCK
from edgec.lock.follow import LockUse
from edgec.plan.plan import Plan, make_plan
from edgec.project.load import load_project
from edgec.target.load import load_target

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_example_project(tmp_path)
    return tmp_path


def plan_of(root: Path, **settings: Any) -> Plan:
    values = {tuple(key.split("__")): value for key, value in settings.items()}
    return make_plan(load_target("small", root), load_project(root, values))  # type: ignore[arg-type]


def build(root: Path, options: BuildOptions | None = None, **settings: Any) -> tuple[Bundle, list[Event]]:
    events: list[Event] = []
    time.sleep(0.05)  # a file of the last moment may change during the build, as its time says
    plan, options = plan_of(root, **settings), options or BuildOptions(jobs=1)
    return unchanged(plan, root, options) or build_target(plan, root, options, events.append), events


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
    assert steps.count("run the float model on 64 samples of evaluation.npz") == 1


def test_a_bundle_of_unchanged_inputs_is_taken_as_it_is(root: Path) -> None:
    first, _ = build(root)
    again, events = build(root)
    assert events == []
    assert again.unchanged
    assert (again.path, again.manifest, again.measurements) == (first.path, first.manifest, first.measurements)
    assert (again.gates, again.dependencies) == (first.gates, first.dependencies)


def test_another_version_is_another_manifest_of_the_same_artifact(root: Path) -> None:
    first, _ = build(root)
    second, _ = build(root, publish__name="digits", publish__version="1.4")
    assert (first.manifest.title, second.manifest.title) == ("net", "digits 1.4")
    assert check_digests(second.path) == second.manifest
    assert second.manifest.artifacts[0].sha256 == first.manifest.artifacts[0].sha256


def _without_lock(root: Path) -> None:
    (root / LOCK).unlink()


def _other_weights(root: Path) -> None:
    (root / "net.py").write_text(NET.replace("seed(0)", "seed(1)"))


def _other_samples(root: Path) -> None:
    np.savez(root / "evaluation.npz", x=np.ones((64, 1, 6), np.float32))


def _other_target(root: Path) -> None:
    (root / "targets" / "small.toml").write_text(TARGET + "[bench]\nruns = 7\n")


def _damaged(root: Path) -> None:
    file = next((root / "dist" / "small").glob("*.npz"))
    file.write_bytes(file.read_bytes()[:-1])


def _more(root: Path) -> None:
    (root / "dist" / "small" / "foreign").write_text("")


def test_whatever_changes_it_is_built_again(root: Path) -> None:
    build(root)
    for change in (_without_lock, _other_weights, _other_samples, _other_target, _damaged, _more):
        change(root)
        bundle, events = build(root)
        assert not bundle.unchanged, change
        assert any(isinstance(event, ArtifactsMeasured) for event in events)
        check_digests(bundle.path)
    assert build(root)[0].unchanged


def test_other_options_build_it_again(root: Path) -> None:
    build(root)
    assert not build(root, BuildOptions(jobs=1, threads=2))[0].unchanged
    assert not build(root, build__seed=3)[0].unchanged


def test_a_file_that_changes_during_the_build_is_not_taken_for_what_was_built(root: Path) -> None:
    def edit(event: Event) -> None:
        if isinstance(event, Step) and event.text == "write the bundle":
            (root / "net.py").write_text(NET.replace("seed(0)", "seed(1)"))

    build_target(plan_of(root), root, BuildOptions(jobs=1), edit)
    assert not build(root)[0].unchanged


def test_only_what_depends_on_a_change_is_done_again(root: Path) -> None:
    build(root)
    _other_samples(root)
    _, events = build(root)
    steps = [event.text for event in events if isinstance(event, Step)]
    assert any("run 64 samples" in step for step in steps)
    assert not any("quantize" in step or step.endswith("emit") for step in steps)


def test_times_are_kept_with_their_date_until_they_are_asked_for(root: Path) -> None:
    first, _ = build(root)
    (root / LOCK).unlink()
    kept, _ = build(root)
    taken, _ = build(root, BuildOptions(jobs=1, retime=True))
    latencies = [[item.latency for item in bundle.measurements] for bundle in (first, kept, taken)]
    assert latencies[0] == latencies[1] != latencies[2]
    assert all(item and item.taken for item in latencies[0])
