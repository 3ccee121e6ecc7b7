"""Plan -> Bundle: the straight line of a build. Nothing here knows a framework or a backend by name."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.backend.protocol import Artifact
from edgec.backend.registry import require_packages
from edgec.dataset.leak import check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import EdgecError, GateError, UnsupportedError
from edgec.log import captured
from edgec.machine import host_machine
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.plan import Plan, PlannedEmit
from edgec.target.load import ResolvedTarget
from edgec.verify.records import GateResult, Measurement
from edgec.worker import call

Progress = Callable[[str], None]
"""Told each step of the build as it begins, one short line."""


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with everything known about it."""

    artifact: Artifact
    passes: tuple[PassRecord, ...]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class BuildResult:
    """What a build made and measured; `failures` are the artifacts that `keep_going` went on without."""

    built: tuple[BuiltArtifact, ...]
    gates: tuple[GateResult, ...]
    failures: tuple[EdgecError, ...]


@contextmanager
def workspace(out: Path, target: str) -> Iterator[tuple[Path, Path]]:
    """A private scratch folder for one build, and its log; the folder goes when the build ends, the log stays.

    Both are under ``<out>/.work/``, on the file system of the bundles, and two builds never share a folder. What a
    killed build left behind is never read again, and is removed by the next build that sees its owner gone.
    """
    base = out / ".work" / target
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


def run_plan(
    plan: Plan, root: Path, scratch: Path, log: Path, *, threads: int, keep_going: bool, progress: Progress
) -> BuildResult:
    """Compile, run and judge all artifacts of a plan.

    Args:
        plan: what to do.
        root: folder that the project's paths are relative to.
        scratch: private folder; artifacts are left in ``scratch/artifacts``, sample outputs in ``scratch/expected``.
        log: receives everything that toolchains print.
        threads: CPU threads of each process.
        keep_going: go on with the other artifacts when one cannot be compiled.
        progress: told each step.

    Raises:
        EdgecError: any error of the tree; with `keep_going`, only those that concern all artifacts, or the
            first artifact's when none could be compiled.
    """
    for item in plan.emits:
        require_packages(item.backend)
    project, target = plan.project, plan.target
    progress(f"load {project.model.path}")
    with captured(log):
        loaded = load_model(project.model, root)
    calibration, evaluation = _spool_data(plan, loaded, root, scratch, log, progress)
    progress(f"run the float model on {len(evaluation)} samples")
    with captured(log):
        reference = float_outputs(loaded, evaluation, scratch / "float", threads)
    progress("portable passes")
    context = PassContext(target, scratch, calibration, project.build.seed, threads)
    with captured(log):
        model, portable = run_passes(
            plan.portable, loaded, context, fingerprint=store.fingerprint, on_progress=lambda name: None
        )
        store.save(model, scratch / "model")
    built: list[BuiltArtifact] = []
    failures: list[EdgecError] = []
    for item in plan.emits:
        try:
            artifact, records = _compile(item, plan, calibration, scratch, log, threads, progress)
        except EdgecError as error:
            if not keep_going:
                raise
            failures.append(error)
            continue
        measurements = tuple(
            _verify(item, runtime, artifact, plan, evaluation, reference, root, scratch, log, threads, progress)
            for runtime in item.runtimes
        )
        built.append(BuiltArtifact(artifact, (*portable, *records), measurements))
    if not built:
        raise failures[0]
    gates = judge(project.gates, target, [item for one in built for item in one.measurements])
    return BuildResult(tuple(built), gates, tuple(failures))


def _spool_data(
    plan: Plan, model: FloatModel, root: Path, scratch: Path, log: Path, progress: Progress
) -> tuple[Spool | None, Spool]:
    project = plan.project
    calibration = None
    if project.calibration is not None and plan.calibration_samples is not None:
        progress(f"read {plan.calibration_samples} calibration samples of {project.calibration.data}")
        with captured(log):
            calibration = write_spool(
                project.calibration, project.preprocess, model.inputs, scratch / "calibration", root,
                samples=plan.calibration_samples, seed=project.build.seed, what="calibration",
            )  # fmt: skip
    assert project.evaluation is not None  # make_plan refuses a project without
    progress(f"read {project.evaluation.data}")
    with captured(log):
        evaluation = write_spool(
            project.evaluation, project.preprocess, model.inputs, scratch / "evaluation", root,
            samples=project.evaluation.samples, seed=project.build.seed, what="evaluation",
        )  # fmt: skip
    if calibration is not None:
        check_disjoint(calibration, evaluation)
    return calibration, evaluation


def _compile(
    item: PlannedEmit, plan: Plan, calibration: Spool | None, scratch: Path, log: Path, threads: int, progress: Progress
) -> tuple[Artifact, tuple[PassRecord, ...]]:
    work, out = scratch / f"emit-{item.index}", scratch / "artifacts"
    work.mkdir()
    out.mkdir(exist_ok=True)
    result = call(
        "edgec.backend.compile:compile_artifact",
        {
            "model": str(scratch / "model"),
            "target": plan.target.model_dump_json(),
            "emit": item.index,
            "calibration": str(calibration.folder) if calibration else None,
            "work": str(work),
            "out": str(out),
            "seed": plan.project.build.seed,
            "threads": threads,
        },
        log=log,
        what=f"{item.file} ({item.backend.name})",
        threads=threads,
        on_progress=lambda step: progress(f"{item.file}: {step}"),
    )
    shutil.rmtree(work)
    artifact = Artifact.model_validate_json(json.dumps(result.value["artifact"]))
    records = tuple(PassRecord.model_validate_json(json.dumps(one)) for one in result.value["passes"])
    return artifact, records
