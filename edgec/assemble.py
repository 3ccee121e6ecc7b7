"""Target + project -> Bundle: the straight line of a build, and the Python API `build`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backend.protocol import Artifact
from edgec.backend.registry import package_version
from edgec.bench.write import FORMATS, HarnessArtifact, write_harness
from edgec.bundle.manifest import (
    REPORT,
    ArtifactRecord,
    Manifest,
    Measurements,
    PassTime,
    accuracy_of,
    pass_facts,
)
from edgec.bundle.write import (
    bundle_lock,
    digest_file,
    discard,
    publish_folder,
    refuse_foreign,
    stage,
    write_manifest,
    write_measurements,
)
from edgec.cache import Cache
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, GateError, ProjectError
from edgec.execute.artifact import BuiltArtifact, outputs_folder
from edgec.execute.job import BuildData, Job
from edgec.execute.room import room_for
from edgec.execute.run import BuildResult, run_plan
from edgec.execute.workspace import cache_folder, checkpoint_folder, explained, workspace
from edgec.files import compressed_size
from edgec.ladder.lock import LOCK, LockedArtifact, changed, lock_inputs, read_lock, write_lock
from edgec.passes.contract import Coverage
from edgec.plan import Plan, PlannedEmit, make_plan, record
from edgec.project.flags import flags
from edgec.project.load import PROJECT_FILE, load_project
from edgec.project.spec import Project
from edgec.report.html import render_report
from edgec.target.load import load_target
from edgec.target.select import select_one
from edgec.target.spec import Target
from edgec.verify.gates import gate_line
from edgec.verify.records import GateResult, Measurement, RungRecord
from edgec.worker import Progress

HARNESS_SAMPLES = 8
"""Evaluation samples that a bundle carries, for its harness to replay."""

Listener = Callable[[Plan, BuildResult], None]
"""Told what was built and measured, before gates decide."""


@dataclass(frozen=True)
class Bundle:
    """A finished bundle."""

    path: Path
    manifest: Manifest
    measurements: tuple[Measurement, ...]
    failures: tuple[EdgecError, ...] = ()
    """Artifacts that ``keep_going`` went on without."""


def build(
    model: str | None = None,
    *,
    target: str,
    calibration: str | None = None,
    evaluation: str | None = None,
    project: str | Path = ".",
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    jobs: int | None = None,
    keep_going: bool = False,
    progress: Progress = lambda step: None,
) -> Bundle:
    """Build one target; the Python form of ``edgec build``.

    Args:
        model: model file or Python entry ``file.py:function``; None: what edgec.toml says.
        target: name of the target.
        calibration: calibration data.
        evaluation: evaluation data.
        project: folder of edgec.toml; it need not have one when `model` is given.
        settings: any other key of edgec.toml by its dotted name: ``{"gates.max_drop": 0.5}``.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are made at once; None: as many as the machine has room for (`edgec.execute.room`).
        keep_going: build the other artifacts when one cannot be compiled.
        progress: told each step.

    Returns:
        The bundle, which met its gates.

    Raises:
        EdgecError: any error of the tree; GateError when a gate is not met.
    """
    values: dict[tuple[str, str], Any] = {
        ("model", "path"): model,
        ("calibration", "data"): calibration,
        ("evaluation", "data"): evaluation,
    }
    known = {flag.key for flag in flags()}
    for dotted, value in (settings or {}).items():
        table, _, key = dotted.partition(".")
        if (table, key) not in known:
            names = ", ".join(".".join(item) for item in sorted(known))
            raise ProjectError(f'no setting is called "{dotted}"', hint=f"settings: {names}")
        values[table, key] = value
    root = Path(project)
    loaded = load_project(root, values)
    name = select_one(target, root)
    return build_target(name, loaded, root, threads=threads, jobs=jobs, keep_going=keep_going, progress=progress)


def build_target(
    name: str,
    project: Project,
    root: Path,
    *,
    threads: int,
    jobs: int | None = None,
    keep_going: bool,
    progress: Progress,
    listener: Listener = lambda plan, result: None,
) -> Bundle:
    """Build the bundle of one target into ``<out>/<target>``, or leave none that looks finished.

    Args:
        name: of the target.
        project: what to build, with paths relative to `root`.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are made at once; None: as many as the machine has room for (`edgec.execute.room`).
        keep_going: build the other artifacts when one cannot be compiled.
        progress: told each step.
        listener: told the measurements, also when gates then fail.

    Raises:
        EdgecError: any error of the tree; GateError when a gate is not met, after removing an older bundle.
    """
    plan = make_plan(load_target(name, root), project)
    out = (root / project.build.out).absolute()
    destination = out / name
    refuse_foreign(destination)
    with bundle_lock(destination), workspace(out, name) as (scratch, log):
        cache = Cache(cache_folder(out))
        lock = read_lock(root).targets.get(name, {})
        job = Job(
            plan, root, scratch, log, threads, jobs or room_for(threads), progress,
            locked=lambda data, item: _locked(plan, item, data, lock, progress),
            checkpoints=checkpoint_folder(out), cache=cache,
        )  # fmt: skip
        with explained(log):
            result = run_plan(job, keep_going=keep_going)
        listener(plan, result)
        if failed := [gate for gate in result.gates if gate.state == "failed"]:
            discard(destination)
            raise _gate_error(failed, plan)
        progress("write the bundle")
        manifest = _write(plan, result, destination)
        _update_lock(plan, result, root)
    measurements = tuple(item for one in result.built for item in one.measurements)
    return Bundle(destination, manifest, measurements, tuple(item.error for item in result.failures))


def _locked(
    plan: Plan, item: PlannedEmit, data: BuildData, lock: Mapping[str, LockedArtifact], progress: Progress
) -> LockedArtifact | None:
    """What edgec.lock says of an artifact, where it was found with these inputs."""
    entry = lock.get(item.file)
    if entry is None or plan.project.build.recipe is not None:
        return None
    if names := changed(entry, _lock_inputs(plan, item, data, entry.rungs)):
        progress(f"{item.file}: {LOCK} no longer holds ({', '.join(names)} changed): search again")
        return None
    return entry


def _lock_inputs(plan: Plan, item: PlannedEmit, data: BuildData, rungs: tuple[RungRecord, ...]) -> dict[str, str]:
    samples = {"calibration": data.calibration, "evaluation": data.evaluation}
    trained = plan.prune is not None or any(rung.rung == "training" and rung.recipe is not None for rung in rungs)
    if data.training is not None and trained:
        samples["training samples"] = data.training.read()
    return lock_inputs(plan, item, data.model, samples)


def _update_lock(plan: Plan, result: BuildResult, root: Path) -> None:
    """Keep the recipes of a project with an edgec.toml, of artifacts that there was a choice for."""
    items = {item.file: item for item in plan.emits if len(item.ladder) > 1}
    entries = {
        one.artifact.file: LockedArtifact(
            recipe=one.attempt.recipe,
            precision=one.attempt.precision,
            rungs=one.rungs,
            inputs=_lock_inputs(plan, items[one.artifact.file], result.data, one.rungs),
        )
        for one in result.built
        if one.artifact.file in items and not one.hurried
    }
    if entries and (root / PROJECT_FILE).exists():
        write_lock(root, plan.target.name, entries, [item.file for item in plan.emits])


def _gate_error(failed: list[GateResult], plan: Plan) -> GateError:
    lines = [f"{gate.artifact} in {gate.runtime}: {gate_line(gate)}" for gate in failed]
    return GateError(
        f"{len(failed)} gate{'s' if len(failed) > 1 else ''} not met, so no bundle was written\n  "
        + "\n  ".join(lines),
        where=plan.target.name,
        hint=_advice(plan.target, {gate.gate for gate in failed}),
    )


def _advice(target: Target, gates: set[str]) -> str:
    ways = ["a wider gate under [gates]"]
    if gates <= {"max_size_kib", "size_kib"}:
        return "what may help: a smaller model, more [prune] amount, int8 if it is not yet, or a larger budget"
    if target.precision != "fp32":
        ways.insert(0, "a target of higher precision")
    if target.precision == "int8":
        ways.insert(0, "more or better calibration data")
    pruned = {"amount": target.prune.amount, "sparsity": target.prune.sparsity}
    ways[:0] = [f"a smaller [prune] {key} than {value:g}" for key, value in pruned.items() if value]
    return "what may help: " + ", ".join(ways)


def _write(plan: Plan, result: BuildResult, destination: Path) -> Manifest:
    measurements = tuple(item for one in result.built for item in one.measurements)
    times = tuple(
        PassTime(artifact=one.artifact.file, name=step.name, seconds=step.seconds)
        for one in result.built
        for step in one.passes
    )
    with stage(destination.parent) as folder:
        for one in result.built:
            one.file.rename(folder / one.artifact.file)
        if harness := [item for one in result.built if (item := _harness(one)) is not None]:
            write_harness(folder / "bench", plan.target, harness, _first_samples(result.data.evaluation))
        manifest = write_manifest(folder, _manifest(plan, result, folder))
        write_measurements(folder, Measurements(measurements=measurements, passes=times))
        (folder / REPORT).write_text(render_report(manifest, measurements, times), encoding="utf-8")
        publish_folder(folder, destination)
    return manifest


def _first_samples(spool: Spool) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    samples = [spool[index] for index in range(min(HARNESS_SAMPLES, len(spool)))]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def _harness(one: BuiltArtifact) -> HarnessArtifact | None:
    """What the harness replays: the outputs of the first runtime that the target's device has; None when it cannot."""
    worked = tuple(item.runtime for item in one.measurements if item.judged and not item.failure)
    if not worked or one.artifact.format not in FORMATS:
        return None
    folder = outputs_folder(one.attempt.folder, worked[0])
    expected = {
        binding.name: np.array(np.load(folder / f"{index}.npy", mmap_mode="r")[:HARNESS_SAMPLES])
        for index, binding in enumerate(one.artifact.outputs)
    }
    return HarnessArtifact(artifact=one.artifact, runtimes=worked, expected=expected)


def _manifest(plan: Plan, result: BuildResult, folder: Path) -> Manifest:
    coverage = [item for one in result.built for item in one.artifact.coverage]
    coverage += [item for one in result.built for step in one.passes for item in step.coverage]
    coverage += [item for one in result.built for item in one.coverage]
    coverage += [
        Coverage(
            subject=one.artifact.file, state="not in bench/", reason=f"the harness runs no {one.artifact.format} files"
        )
        for one in result.built
        if one.artifact.format not in FORMATS
    ]
    coverage += [Coverage(subject=item.file, state="not built", reason=item.error.what) for item in result.failures]
    coverage += [
        Coverage(subject=result.data.model.source.path, state="assumed", reason=note) for note in result.data.notes
    ]
    return Manifest(
        edgec=package_version("edgec") or "unknown",
        target=plan.target,
        target_digest=plan.target.digest(),
        source=result.data.model.source,
        calibration=result.data.calibration.info if result.data.calibration else None,
        evaluation=result.data.evaluation.info,
        plan=record(plan).model_dump(mode="json"),
        artifacts=tuple(_artifact(one, folder, plan.target) for one in result.built),
        coverage=tuple(dict.fromkeys(coverage)),
        gates=result.gates,
        complete=not result.failures,
        accuracy=tuple(accuracy_of(item) for one in result.built for item in one.measurements),
        toolchain=_toolchain(plan, [one.artifact for one in result.built]),
    )


def _artifact(one: BuiltArtifact, folder: Path, target: Target) -> ArtifactRecord:
    file = digest_file(folder / one.artifact.file)
    passes = tuple(pass_facts(step) for step in one.passes)
    return ArtifactRecord(
        artifact=one.artifact,
        sha256=file.sha256,
        size=file.size,
        compressed_size=compressed_size(folder / one.artifact.file) if target.prune.sparsity else None,
        recipe=one.attempt.recipe,
        rungs=one.rungs,
        layers=one.layers,
        passes=passes,
    )


def _toolchain(plan: Plan, artifacts: list[Artifact]) -> dict[str, str]:
    made = {artifact.backend for artifact in artifacts}
    names = {
        package.distribution for item in plan.emits if item.backend.name in made for package in item.backend.packages
    }
    versions = {name: package_version(name) or "unknown" for name in sorted(names | {"torch", "numpy"})}
    return {"python": platform.python_version(), **versions}
