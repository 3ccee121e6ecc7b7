"""Running a plan: load, transform, then for every artifact climb the accuracy ladder, time it, and judge it.

Knows no framework or backend by name.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgec.artifacts import BuildData, BuiltArtifact, FailedArtifact, Job, Judged, make_artifacts
from edgec.backend.registry import require_packages
from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import write_spool
from edgec.errors import EdgecError, ProjectError
from edgec.log import captured
from edgec.machine import host_machine
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.verify.gates import judge
from edgec.verify.metrics import choose_metric
from edgec.verify.records import GateResult
from edgec.verify.reference import float_outputs


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


@contextmanager
def explained(log: Path) -> Iterator[None]:
    """Errors name the log when there is anything in it; code of the project that ends the process is an error too."""
    try:
        yield
    except EdgecError as error:
        error.log = error.log or (str(log) if log.stat().st_size else "")
        raise
    except SystemExit as leave:
        frames = traceback.extract_tb(leave.__traceback__)
        raise ProjectError(
            f"code of the project ended the process: sys.exit({leave.code!r})",
            where=f"{frames[-1].filename}:{frames[-1].lineno}",
            hint='guard what belongs to a script with: if __name__ == "__main__"',
        ) from leave


def checkpoint_folder(out: Path) -> Path:
    """Where training leaves what it has reached, for a build that is started again."""
    return out.absolute() / ".work" / "checkpoints"


def cache_folder(out: Path) -> Path:
    """Where results are kept from run to run, under the folder of bundles."""
    return out.absolute() / ".work" / "cache"


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
    calibration, evaluation = spool_data(job, loaded)
    assert project.evaluation is not None  # make_plan refuses a project without
    metric = choose_metric(
        project.evaluation.metric, loaded.outputs, evaluation.labels, job.root, seed=project.build.seed
    )
    job.progress(f"run the float model on {len(evaluation)} samples")
    with captured(job.log):
        reference = float_outputs(loaded, evaluation, job.scratch / "float", job.threads)
        metric.compare(reference, reference)  # a metric of the user's that fails should fail now
    portable, notes = transform(job, loaded, calibration)
    if evaluation.labels is not None and metric.name in ("sqnr", "agreement"):
        notes += (f"the labels of {project.evaluation.data} are not used: the metric is {metric.name}",)
    training = _spool_training(job, loaded, evaluation)
    data = BuildData(loaded, notes, calibration, evaluation, training)
    judged = Judged(data, reference, metric, host_machine(), portable)
    made = make_artifacts(job, judged, keep_going=keep_going)
    failures = tuple(item for item in made if isinstance(item, FailedArtifact))
    built = tuple(item for item in made if isinstance(item, BuiltArtifact))
    if not built:
        raise failures[0].error
    gates = judge(project.gates, plan.target, [item for one in built for item in one.measurements])
    return BuildResult(data, built, gates, failures)


def spool_data(job: Job, model: FloatModel) -> tuple[Spool | None, Spool]:
    """Calibration samples, where the target needs some, and evaluation samples, in the job's scratch folder.

    Raises:
        DatasetError: they are missing or do not fit the model.
        DataLeakError: they have samples in common.
    """
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


def _spool_training(job: Job, model: FloatModel, evaluation: Spool) -> Spool | None:
    """Training samples, where the target's ladder has a rung for them."""
    project = job.plan.project
    if project.train is None or not any(rung.name == "training" for item in job.plan.emits for rung in item.ladder):
        return None
    job.progress(f"read training samples of {project.train.data}")
    with captured(job.log):
        training = write_spool(
            project.train, project.preprocess, model.inputs, job.scratch / "training", job.root,
            samples=project.train.samples, seed=project.build.seed, what="training",
        )  # fmt: skip
    check_classes(training, evaluation)
    return check_disjoint(training, evaluation, "training")


def transform(job: Job, model: FloatModel, calibration: Spool | None) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    """Run the portable passes and leave the model where worker processes find it; return records and notes."""
    context = PassContext(job.plan.target, job.scratch, calibration, job.plan.project.build.seed, job.threads)
    with captured(job.log):
        changed, records = run_passes(
            job.plan.portable, model, context, store.fingerprint, on_progress=lambda name: job.progress(name)
        )
        notes = store.save(changed, job.scratch / "model")
    return records, notes
