"""What comes before any artifact: the float model, the samples, the metric, and the passes that all artifacts share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgec.check.build import findings_of
from edgec.check.records import Finding
from edgec.dataset.spool import Spool
from edgec.build.inputs import read_inputs
from edgec.build.job import BuildData, Inputs, Job
from edgec.prune.run import prune
from edgec.train.training_data import TrainingSamples
from edgec.storage.workspace import model_step
from edgec.workers.log import captured
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.verify.metrics import Metric


@dataclass(frozen=True)
class Prepared:
    """A build before its first artifact."""

    data: BuildData
    metric: Metric
    """``auto`` is still to be settled (`edgec.build.settle_metric`)."""
    portable: tuple[PassRecord, ...]
    """The model after these is in the job's ``model`` folder; none were run yet before `transform`."""


def prepare(job: Job) -> Prepared:
    """Read model and samples, settle the metric, and run the portable passes.

    Raises:
        EdgecError: any error of model, data, metric or passes.
    """
    return transform(job, begin(job, job.inputs or read_inputs(job)))


def begin(job: Job, inputs: Inputs) -> Prepared:
    """The same before the passes: nothing is made of what was read yet.

    Raises:
        LockError: it is not as locked.
    """
    data = BuildData(inputs.model, (), inputs.calibration, inputs.evaluation, inputs.training)
    job.loaded(data)
    return Prepared(replace(data, findings=_findings(job, data)), inputs.metric, ())


def _findings(job: Job, data: BuildData) -> tuple[Finding, ...]:
    with captured(job.log), model_step("look at", str(job.plan.project.model.path)):
        findings = findings_of(job.plan, data.model, data.calibration, data.evaluation)
    for item in findings:
        job.found(item)
    return findings


def transform(job: Job, prepared: Prepared) -> Prepared:
    """Run the portable passes over what was read; the model is then in the job's ``model`` folder.

    Raises:
        EdgecError: as passes raise.
    """
    data = prepared.data
    portable, notes = _transform(job, data.model, data.calibration, data.evaluation, data.training)
    return replace(prepared, data=replace(data, notes=(*notes, *data.notes)), portable=portable)


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
