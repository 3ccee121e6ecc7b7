"""Running a plan: load, transform, compile, run and judge every artifact. Knows no framework or backend by name."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.backend.protocol import Artifact, RuntimeSpec
from edgec.backend.registry import require_packages
from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import EdgecError, WorkerError
from edgec.log import captured
from edgec.machine import Machine, host_machine
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.plan import Plan, PlannedEmit
from edgec.verify.gates import judge
from edgec.verify.measure import measure
from edgec.verify.metrics import Metric, choose_metric
from edgec.verify.outputs import Outputs
from edgec.verify.records import GateResult, Measurement
from edgec.verify.reference import float_outputs
from edgec.worker import WorkerResult, call

Progress = Callable[[str], None]
"""Told each step of the build as it begins, one short line."""


@dataclass(frozen=True)
class Job:
    """What all steps of one build share."""

    plan: Plan
    root: Path
    """Folder that the project's paths are relative to."""
    scratch: Path
    """Private folder of this build. Artifacts are made in its ``artifacts``."""
    log: Path
    """Receives everything that toolchains print."""
    threads: int
    """CPU threads of each process."""
    progress: Progress


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with everything known about it."""

    artifact: Artifact
    passes: tuple[PassRecord, ...]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class FailedArtifact:
    """An artifact that `keep_going` went on without."""

    file: str
    error: EdgecError


@dataclass(frozen=True)
class BuildData:
    """What a build was made from."""

    model: FloatModel
    """As loaded, before any pass."""
    notes: tuple[str, ...]
    """What loading and tracing the model had to assume."""
    calibration: Spool | None
    evaluation: Spool


@dataclass(frozen=True)
class BuildResult:
    """What a build made and measured."""

    data: BuildData
    built: tuple[BuiltArtifact, ...]
    gates: tuple[GateResult, ...]
    failures: tuple[FailedArtifact, ...]


@contextmanager
def workspace(out: Path, target: str) -> Iterator[tuple[Path, Path]]:
    """A private scratch folder for one build, and its log; the folder goes when the build ends, the log stays.

    Both are under ``<out>/.work/``, on the file system of the bundles, and two builds never share a folder. What a
    killed build left behind is never read again, and is removed by the next build that sees its owner gone.
    """
    base = (out / ".work" / target).absolute()
    base.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(base)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    log = base / "build.log"
    log.write_text("")
    try:
        yield folder, log
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(base: Path) -> None:
    for folder in base.iterdir():
        owner = folder.name.partition("-")[0]
        if folder.is_dir() and owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(folder, ignore_errors=True)


def run_plan(job: Job, *, keep_going: bool) -> BuildResult:
    """Compile, run and judge all artifacts of a plan.

    Args:
        job: what to do, and where.
        keep_going: go on with the other artifacts when one cannot be compiled.

    Raises:
        EdgecError: any error of the tree; with `keep_going`, only one that concerns all artifacts, or the
            first artifact's when none could be compiled.
    """
    plan, project = job.plan, job.plan.project
    if not keep_going:
        for item in plan.emits:
            require_packages(item.backend)
    job.progress(f"load {project.model.path}")
    with captured(job.log):
        loaded = load_model(project.model, job.root)
    calibration, evaluation = _spool_data(job, loaded)
    assert project.evaluation is not None  # make_plan refuses a project without
    metric = choose_metric(
        project.evaluation.metric, loaded.outputs, evaluation.labels, job.root, seed=project.build.seed
    )
    job.progress(f"run the float model on {len(evaluation)} samples")
    with captured(job.log):
        reference = float_outputs(loaded, evaluation, job.scratch / "float", job.threads)
    portable, notes = _transform(job, loaded, calibration)
    if evaluation.labels is not None and metric.name in ("sqnr", "agreement"):
        notes += (f"the labels of {project.evaluation.data} are not used: the metric is {metric.name}",)
    judged = _Judged(evaluation, reference, metric, host_machine())
    built: list[BuiltArtifact] = []
    failures: list[FailedArtifact] = []
    for item in plan.emits:
        try:
            require_packages(item.backend)
            artifact, records = _compile(job, item, calibration)
        except EdgecError as error:
            if not keep_going:
                raise
            failures.append(FailedArtifact(item.file, error))
            continue
        measurements = tuple(_verify(job, artifact, runtime, judged) for runtime in item.runtimes)
        built.append(BuiltArtifact(artifact, (*portable, *records), measurements))
    if not built:
        raise failures[0].error
    gates = judge(project.gates, plan.target, [item for one in built for item in one.measurements])
    data = BuildData(loaded, notes, calibration, evaluation)
    return BuildResult(data, tuple(built), gates, tuple(failures))


@dataclass(frozen=True)
class _Judged:
    """What every artifact is measured against."""

    evaluation: Spool
    reference: Outputs
    metric: Metric
    machine: Machine


def _spool_data(job: Job, model: FloatModel) -> tuple[Spool | None, Spool]:
    project, seed = job.plan.project, job.plan.project.build.seed
    calibration = None
    if project.calibration is not None and job.plan.calibration_samples is not None:
        job.progress(f"read calibration samples of {project.calibration.data}")
        with captured(job.log):
            calibration = write_spool(
                project.calibration, project.preprocess, model.inputs, job.scratch / "calibration", job.root,
                samples=job.plan.calibration_samples, seed=seed, what="calibration",
            )  # fmt: skip
    assert project.evaluation is not None  # make_plan refuses a project without
    job.progress(f"read evaluation samples of {project.evaluation.data}")
    with captured(job.log):
        evaluation = write_spool(
            project.evaluation, project.preprocess, model.inputs, job.scratch / "evaluation", job.root,
            samples=project.evaluation.samples, seed=seed, what="evaluation",
        )  # fmt: skip
    if calibration is not None:
        check_classes(calibration, evaluation)
        calibration = check_disjoint(calibration, evaluation)
    return calibration, evaluation


def _transform(
    job: Job, model: FloatModel, calibration: Spool | None
) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    """Run the portable passes and leave the model where worker processes find it; return records and notes."""
    context = PassContext(job.plan.target, job.scratch, calibration, job.plan.project.build.seed, job.threads)
    with captured(job.log):
        changed, records = run_passes(
            job.plan.portable, model, context, store.fingerprint, on_progress=lambda name: job.progress(name)
        )
        notes = store.save(changed, job.scratch / "model")
    return records, notes


def _compile(job: Job, item: PlannedEmit, calibration: Spool | None) -> tuple[Artifact, tuple[PassRecord, ...]]:
    work, out = job.scratch / f"emit-{item.index}", job.scratch / "artifacts"
    work.mkdir()
    out.mkdir(exist_ok=True)
    result = call(
        "edgec.backend.compile:compile_artifact",
        {
            "model": str(job.scratch / "model"),
            "target": job.plan.target.model_dump_json(),
            "emit": item.index,
            "calibration": str(calibration.folder) if calibration else None,
            "work": str(work),
            "out": str(out),
            "seed": job.plan.project.build.seed,
            "threads": job.threads,
        },
        log=job.log,
        what=f"{item.file} ({item.backend.name})",
        threads=job.threads,
        on_progress=lambda step: job.progress(f"{item.file}: {step}"),
    )
    shutil.rmtree(work)
    artifact = Artifact.model_validate_json(json.dumps(result.value["artifact"]))
    return artifact, tuple(PassRecord.model_validate_json(json.dumps(one)) for one in result.value["passes"])


def _verify(job: Job, artifact: Artifact, runtime: RuntimeSpec, judged: _Judged) -> Measurement:
    file, bench = job.scratch / "artifacts" / artifact.file, job.plan.target.bench
    try:
        result: WorkerResult | EdgecError = call(
            "edgec.verify.run:run_artifact",
            {
                "artifact": artifact.model_dump(mode="json"),
                "file": str(file),
                "runtime": runtime.name,
                "spool": str(judged.evaluation.folder),
                "out": str(outputs_folder(job.scratch, artifact, runtime.name)),
                "threads": bench.threads,
                "warmup": bench.warmup,
                "runs": bench.runs,
            },
            log=job.log,
            what=f"{artifact.file} in {runtime.name}",
            threads=bench.threads,
            on_progress=lambda step: job.progress(f"{artifact.file}: {step}"),
        )
    except WorkerError as error:
        result = error  # a runtime that crashes over an artifact is a finding about the artifact
    return measure(artifact, file, runtime, result, judged.reference, judged.metric, judged.machine)


def outputs_folder(scratch: Path, artifact: Artifact, runtime: str) -> Path:
    """Where the outputs of an artifact in a runtime are, one ``<output>.npy`` each."""
    return scratch / "outputs" / f"{artifact.file}.{runtime}"
