"""What targets are built from, read and judged before anything is made: the float model, the samples, the metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgec.bundle.write import refuse_foreign, refuse_within
from edgec.dataset.join import join
from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.errors import WeakFloatError
from edgec.build.job import Inputs, Job
from edgec.train.training_data import TrainingSamples
from edgec.storage.workspace import explained, model_step, workspace
from edgec.workers.log import captured
from edgec.model.load import load_model
from edgec.model.spec import Array, FloatModel
from edgec.plan.plan import Plan
from edgec.project.spec import CalibrationSpec, DataSpec
from edgec.verify.metrics import choose_metric
from edgec.verify.outputs import Outputs
from edgec.verify.reference import float_outputs, with_right_graph
from edgec.verify.weak_float import CAUSES, refuse_inaccurate, weakness
from edgec.workers.worker import Progress, import_ahead

COMPARED_SAMPLES = 128
"""Calibration samples that the float model is run on where it is doubtful on the evaluation samples."""
SHARED = ".all"
"""Where several targets' common inputs are kept while they are built, among the work folders of targets."""


@contextmanager
def inputs_of_all(
    plans: Sequence[Plan], root: Path, out: Path, *, threads: int, progress: Progress
) -> Iterator[Mapping[str, Inputs]]:
    """Read and judge what several targets are built from, before the first artifact of the first one.

    The model is loaded once, and evaluation samples are read and run once, for all. What is wrong with the data of any
    target (missing, unfit, shared between sets, without the labels that the metric needs), or with the float model on
    it, is known when the context begins; files last until it ends.

    Args:
        plans: of targets of one project; at least one.
        root: the project's folder.
        out: the folder of bundles.
        threads: CPU threads of each toolchain process.
        progress: told each step.

    Returns:
        By name of the target, `Job.inputs`.

    Raises:
        EdgecError: any error of model, data, labels or metric; WeakFloatError as of `check_float`.
    """
    refuse_within(out)
    for plan in plans:
        refuse_foreign(out / plan.target.name)
    with workspace(out, SHARED) as (scratch, log):
        with explained(log):
            import_ahead(log, threads)
            known: dict[int | None, Inputs] = {}
            for plan in plans:
                job = Job(plan, root, scratch, log, threads, 1, progress)
                inputs = known[plan.calibration_samples] = read_inputs(job, known)
                if plan.prune is not None and inputs.training is not None:
                    inputs.training.read()  # it will be needed, and may be wrong
            reference = run_float(job, known[job.plan.calibration_samples])
            for inputs in known.values():
                check_float(job, inputs, reference)
        found = {count: replace(inputs, reference=reference) for count, inputs in known.items()}
        yield {plan.target.name: found[plan.calibration_samples] for plan in plans}


def read_inputs(job: Job, known: Mapping[int | None, Inputs] | None = None) -> Inputs:
    """Load the model, lay down the samples in the job's scratch folder, and settle the metric.

    Args:
        job: what to read, and where to.
        known: what was read for other targets of the project into the same folder, by their calibration samples.

    Raises:
        DatasetError: samples are missing or do not fit the model.
        DataLeakError: calibration and evaluation data have samples in common.
        LabelsError: labels do not fit the metric or each other.
        EdgecError: any other error of model or metric.
    """
    count = job.plan.calibration_samples
    found = next(iter(known.values())) if known else _common(job)
    calibration = known[count].calibration if known and count in known else _calibration(job, found)
    return replace(found, calibration=calibration)


def run_float(job: Job, inputs: Inputs) -> Outputs:
    """The float model's outputs on the evaluation samples.

    Raises:
        EdgecError: it does not take them, or an output is NaN.
    """
    job.progress(f"run the float model on {len(inputs.evaluation)} samples")
    with captured(job.log), model_step("run", str(job.plan.project.model.path)):
        return float_outputs(inputs.model, inputs.evaluation, job.scratch / "float", job.threads)


def check_float(job: Job, inputs: Inputs, reference: Outputs) -> tuple[str, ...]:
    """Hold the float model to ``min_accuracy``, and to being better than chance.

    Args:
        job: the plan says what is allowed.
        inputs: what it was run on.
        reference: its outputs on the evaluation samples.

    Returns:
        What is wrong all the same, where the project allows it.

    Raises:
        WeakFloatError: it is not worth compiling as it is fed.
    """
    project = job.plan.project

    def calibrated() -> tuple[Outputs, Array, int] | None:
        spool = inputs.calibration
        if spool is None or spool.labels is None:
            return None
        count, group = min(len(spool), COMPARED_SAMPLES), spool.info.group
        samples = [spool[index] for index in range(count)]
        with captured(job.log), model_step("run", str(project.model.path)):
            outputs = float_outputs(inputs.model, samples, job.scratch / "float-calibration", job.threads)
        return outputs, spool.labels[: count * group], group

    with captured(job.log):
        refuse_inaccurate(project.gates, inputs.metric, reference)
    told = weakness(inputs.metric, reference, calibrated)
    if not told:
        return ()
    if project.build.allow_weak_float:
        return (f"{told}; it was built all the same, as allow_weak_float says",)
    info = inputs.evaluation.info
    first = f"; the first sample: {info.first_sample[0]}" if info.first_sample else ""
    raise WeakFloatError(told, where=info.origin, hint=f"{CAUSES}{first}\n  --allow-weak-float builds it all the same")


def _common(job: Job) -> Inputs:
    """What no target has for itself: model, evaluation samples and metric."""
    project, path = job.plan.project, str(job.plan.project.model.path)
    assert project.evaluation is not None  # make_plan refuses a project without
    job.progress(f"load {path}")
    with captured(job.log), model_step("load", path):
        model = load_model(project.model, job.root)
    evaluation = _spool(job, project.evaluation, model, project.evaluation.samples, "evaluation")
    with captured(job.log), model_step("run", path):
        first = [evaluation[index] for index in range(min(2, len(evaluation)))]
        model = with_right_graph(model, first, job.threads)
    metric = choose_metric(
        project.evaluation.metric, model.outputs, evaluation.labels, job.root,
        seed=project.build.seed, group=evaluation.info.group,
    )  # fmt: skip
    training = None
    if project.train is not None:
        training = TrainingSamples(
            job.plan, project.train, model.inputs, evaluation, job.scratch / "training", job.root, job.progress
        )
    return Inputs(model, None, evaluation, training, metric)


def _calibration(job: Job, found: Inputs) -> Spool | None:
    spec, count = job.plan.project.calibration, job.plan.calibration_samples
    if spec is None or count is None:
        return None
    calibration = _spool(job, spec, found.model, count, "calibration")
    calibration = join(calibration, _further(job, spec, found.model), job.scratch / f"calibration-{count}-joined")
    check_classes(calibration, found.evaluation)
    return check_disjoint(calibration, found.evaluation)


def _further(job: Job, spec: CalibrationSpec, model: FloatModel) -> list[Spool]:
    """What ``[calibration] more`` names, each with all of its samples."""
    project = job.plan.project
    found = []
    for number, data in enumerate(spec.more):
        job.progress(f"read calibration samples of {data}")
        with captured(job.log):
            spool = write_spool(
                DataSpec(data=data), project.preprocess, model.inputs, job.scratch / f"calibration-more-{number}",
                job.root, samples=None, seed=project.build.seed, what="calibration",
            )  # fmt: skip
        found.append(spool)
    return found


def _spool(job: Job, spec: DataSpec, model: FloatModel, samples: int | None, what: Purpose) -> Spool:
    project = job.plan.project
    job.progress(f"read {what} samples of {spec.data}")
    folder = job.scratch / (what if what == "evaluation" else f"{what}-{samples}")
    with captured(job.log):
        return write_spool(
            spec,
            project.preprocess,
            model.inputs,
            folder,
            job.root,
            samples=samples,
            seed=project.build.seed,
            what=what,
        )
