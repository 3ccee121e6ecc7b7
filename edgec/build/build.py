"""Target + project -> Bundle: the straight line of a build, and the Python API `build`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.bundle.bench.write import HarnessArtifact, can_replay, write_harness
from edgec.bundle.check import incomplete
from edgec.bundle.manifest import REPORT, Manifest, Measurements, PassTime
from edgec.bundle.write import (
    bundle_lock,
    discard,
    publish_folder,
    refuse_foreign,
    refuse_within,
    settle,
    source_date_epoch,
    stage,
    write_manifest,
    write_measurements,
)
from edgec.storage.cache import Cache
from edgec.check.records import Finding
from edgec.dataset.spool import Spool
from edgec.errors import ProjectError, ReproducibilityError
from edgec.build.api import Bundle
from edgec.build.accept import ending, without_missed
from edgec.build.artifact import BuiltArtifact, FailedArtifact, outputs_folder
from edgec.lock.follow import UNLOCKED, FollowedLock, LockUse
from edgec.build.job import Inputs, Job
from edgec.build.manifest import manifest_of
from edgec.build.room import room_for
from edgec.build.run import BuildResult, run_plan
from edgec.build.twin import keep_twin
from edgec.storage.workspace import cache_folder, checkpoint_folder, explained, workspace
from edgec.plan.plan import Plan, make_plan
from edgec.project.flags import flags
from edgec.project.load import load_project
from edgec.project.spec import Project
from edgec.report.html import render_report
from edgec.target.load import load_target
from edgec.target.select import select_one
from edgec.verify.records import GateResult, Measurement
from edgec.workers.worker import Progress

HARNESS_SAMPLES = 8
"""Evaluation samples that a bundle carries, for its harness to replay."""

Listener = Callable[[Plan, BuildResult], None]
"""Told what was built and measured, before gates decide."""
Inspector = Callable[[Path, Path, Path], None]
"""Shown a complete bundle before it is put in place, with a folder to work in and a log; may raise."""


def build_target(
    name: str,
    project: Project,
    root: Path,
    *,
    threads: int,
    jobs: int | None = None,
    all_or_nothing: bool,
    lock_use: LockUse = UNLOCKED,
    progress: Progress,
    listener: Listener = lambda plan, result: None,
    found: Callable[[Finding], None] = lambda finding: None,
    inspector: Inspector = lambda bundle, scratch, log: None,
    inputs: Inputs | None = None,
) -> Bundle:
    """Build the bundle of one target into ``<out>/<target>``, or leave none that looks finished.

    Artifacts that cannot be made or miss gates are among the failures of what is returned; its manifest says that they
    are missing.

    Args:
        name: of the target.
        project: what to build, with paths relative to `root`.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are made at once; None: as many as the machine has room for (`edgec.build.room`).
        all_or_nothing: write no bundle when an artifact cannot be made or misses a gate.
        lock_use: what edgec.lock is for this build.
        progress: told each step.
        found: told what is doubtful about model and samples, before anything is made.
        listener: told the measurements, also when gates then fail.
        inspector: shown the bundle before it is put in place, and before edgec.lock is renewed.
        inputs: model and samples, where `edgec.build.inputs.inputs_of_all` has read them for several targets.

    Raises:
        EdgecError: no artifact is right, or what is wrong concerns all. An older bundle is removed when it is gates
            that were missed, and by a ReproducibilityError of `inspector`.
    """
    source_date_epoch()  # not after all the work
    plan = make_plan(load_target(name, root), project)
    lock = FollowedLock(plan, root, lock_use, threads, progress)
    lock.check()
    out = (root / project.build.out).absolute()
    destination = out / name
    refuse_foreign(destination)
    refuse_within(out)
    with bundle_lock(destination), workspace(out, name) as (scratch, log):
        cache = Cache(cache_folder(out))
        job = Job(
            plan, root, scratch, log, threads, jobs or room_for(threads), progress,
            loaded=lock.loaded, found=found, metric_ran=lock.metric_ran, locked=lock.entry, bound=lock_use.locked,
            checkpoints=checkpoint_folder(out), cache=cache, inputs=inputs,
        )  # fmt: skip
        with explained(log):
            result = run_plan(job, all_or_nothing=all_or_nothing)
        listener(plan, result)
        if error := ending(result, plan, all_or_nothing=all_or_nothing):
            if any(gate.state == "failed" for gate in result.gates):
                discard(destination)
            raise error
        gates, result = result.gates, without_missed(result, plan)
        progress("write the bundle")
        with stage(out) as folder:
            manifest = _write(job, result, gates, folder)
            try:
                inspector(folder, scratch, log)
            except ReproducibilityError:
                discard(destination)
                raise
            publish_folder(folder, destination)
        lock.renew(result)
    measurements = tuple(item for one in result.built for item in one.measurements)
    return Bundle(destination, manifest, measurements, result.failures, tuple(result.data.model.source.imported))


def _write(job: Job, result: BuildResult, gates: tuple[GateResult, ...], folder: Path) -> Manifest:
    """Make a whole bundle in the staged `folder`; `gates`: of artifacts that are left out for them, too."""
    plan = job.plan
    measurements = tuple(item for one in result.built for item in one.measurements)
    times = tuple(
        PassTime(artifact=one.artifact.file, name=step.name, seconds=step.seconds)
        for one in result.built
        for step in one.passes
    )
    for one in result.built:
        one.file.rename(folder / one.artifact.file)
    if harness := [item for one in result.built if (item := _harness(one)) is not None]:
        write_harness(folder / "bench", plan.target, harness, _first_samples(result.data.evaluation))
    twin = keep_twin(plan, result, folder)
    manifest = manifest_of(plan, result, folder, job.root, threads=job.threads, twin=twin)
    manifest = write_manifest(folder, manifest)
    write_measurements(folder, Measurements(measurements=measurements, passes=times, gates=gates))
    shown = manifest.model_copy(update={"gates": result.gates})
    page = render_report(shown, measurements, times, result.data.evaluation[0])
    (folder / REPORT).write_text(page, encoding="utf-8")
    settle(folder)
    return manifest


def _first_samples(spool: Spool) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    samples = [spool[index] for index in range(min(HARNESS_SAMPLES, len(spool)))]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _harness(one: BuiltArtifact) -> HarnessArtifact | None:
    """What the harness replays: the outputs of the first runtime that the target's device has; None when it cannot."""
    worked = tuple(item.runtime for item in one.measurements if item.judged and not item.failure)
    if not worked or not can_replay(one.artifact):
        return None
    folder = outputs_folder(one.attempt.folder, worked[0])
    expected = {
        binding.name: np.array(np.load(folder / f"{index}.npy", mmap_mode="r")[:HARNESS_SAMPLES])
        for index, binding in enumerate(one.artifact.outputs)
    }
    return HarnessArtifact(artifact=one.artifact, runtimes=worked, expected=expected)
