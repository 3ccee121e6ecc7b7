"""What comes before any artifact: the float model, the samples, the metric, and the passes that all artifacts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgec.check.build import findings_of
from edgec.check.records import Finding
from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.execute.job import BuildData, Job
from edgec.execute.pruning import prune
from edgec.execute.training_samples import TrainingSamples
from edgec.execute.workspace import model_step
from edgec.log import captured
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.project.spec import DataSpec
from edgec.verify.metrics import Metric, choose_metric
from edgec.verify.reference import with_right_graph


@dataclass(frozen=True)
class Prepared:
    """A build before its first artifact."""

    data: BuildData
    metric: Metric
    portable: tuple[PassRecord, ...]
    """The model after these is in the job's ``model`` folder."""


def prepare(job: Job) -> Prepared:
    """Load the model, lay down the samples, settle the metric, and run the portable passes.

    Raises:
        EdgecError: any error of model, data, metric or passes.
    """
    project = job.plan.project
    job.progress(f"load {project.model.path}")
    with captured(job.log), model_step("load", str(project.model.path)):
        model = load_model(project.model, job.root)
    calibration, evaluation = _spool_data(job, model)
    with captured(job.log), model_step("run", str(project.model.path)):
        model = with_right_graph(model, [evaluation[index] for index in range(min(2, len(evaluation)))], job.threads)
    assert project.evaluation is not None  # make_plan refuses a project without
    wanted, seed = project.evaluation.metric, project.build.seed
    group = evaluation.info.group
    metric = choose_metric(wanted, model.outputs, evaluation.labels, job.root, seed=seed, group=group)
    training = _training_samples(job, model, evaluation)
    job.loaded(BuildData(model, (), calibration, evaluation, training))
    findings = _findings(job, model, calibration, evaluation)
    portable, notes = _transform(job, model, calibration, evaluation, training)
    if evaluation.labels is not None and metric.name in ("sqnr", "agreement"):
        notes += (f"the labels of {project.evaluation.data} are not used: the metric is {metric.name}",)
    return Prepared(BuildData(model, notes, calibration, evaluation, training, findings), metric, portable)


def _findings(job: Job, model: FloatModel, calibration: Spool | None, evaluation: Spool) -> tuple[Finding, ...]:
    with captured(job.log), model_step("look at", str(job.plan.project.model.path)):
        findings = findings_of(job.plan, model, calibration, evaluation)
    for item in findings:
        job.found(item)
    return findings


def _spool_data(job: Job, model: FloatModel) -> tuple[Spool | None, Spool]:
    """Calibration samples, where the target needs some, and evaluation samples, in the job's scratch folder.

    Raises:
        DatasetError: they are missing or do not fit the model.
        DataLeakError: they have samples in common.
    """
    project = job.plan.project
    calibration = None
    if project.calibration is not None and job.plan.calibration_samples is not None:
        calibration = _spool(job, project.calibration, model, job.plan.calibration_samples, "calibration")
    assert project.evaluation is not None  # make_plan refuses a project without
    evaluation = _spool(job, project.evaluation, model, project.evaluation.samples, "evaluation")
    if calibration is not None:
        check_classes(calibration, evaluation)
        calibration = check_disjoint(calibration, evaluation)
    return calibration, evaluation


def _spool(job: Job, spec: DataSpec, model: FloatModel, samples: int | None, what: Purpose) -> Spool:
    project = job.plan.project
    job.progress(f"read {what} samples of {spec.data}")
    with captured(job.log):
        return write_spool(
            spec, project.preprocess, model.inputs, job.scratch / what, job.root,
            samples=samples, seed=project.build.seed, what=what,
        )  # fmt: skip


def _training_samples(job: Job, model: FloatModel, evaluation: Spool) -> TrainingSamples | None:
    spec = job.plan.project.train
    if spec is None:
        return None
    return TrainingSamples(job.plan, spec, model.inputs, evaluation, job.scratch / "training", job.root, job.progress)


def _transform(
    job: Job, model: FloatModel, calibration: Spool | None, evaluation: Spool, training: TrainingSamples | None
) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    """Run the portable passes and leave the model where worker processes find it; return records and notes."""
    plan, name = job.plan, str(job.plan.project.model.path)
    context = PassContext(plan.target, job.scratch, calibration, plan.project.build.seed, job.threads)

    def run(passes: Sequence[Pass[FloatModel]], begin: FloatModel) -> tuple[FloatModel, tuple[PassRecord, ...]]:
        with captured(job.log), model_step("transform", name):
            return run_passes(passes, begin, context, store.fingerprint, on_progress=job.progress)

    changed, records = run(plan.before_pruning, model)
    if plan.prune is not None:
        changed, record = prune(job, plan.prune, changed, training, calibration, evaluation)
        records += (record,)
    changed, more = run(plan.after_pruning, changed)
    with captured(job.log), model_step("store", name):
        notes = store.save(changed, job.scratch / "model")
    return (*records, *more), notes
