"""What targets are built from, read and judged before anything is made: the float model, the samples, the metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgec.bundle.write import refuse_foreign, refuse_within
from edgec.dataset.join import join
from edgec.dataset.leak import check_classes, check_disjoint
from edgec.dataset.spool import Spool
from edgec.dataset.write import Purpose, write_spool
from edgec.errors import WeakFloatError
from edgec.events import Subscriber
from edgec.frozen import Frozen
from edgec.model import store
from edgec.model.load import load_model
from edgec.model.spec import Array, FloatModel
from edgec.plan.context import BuildContext, build_context
from edgec.plan.identity import environment
from edgec.plan.plan import Plan
from edgec.project.spec import CalibrationSpec, DataSpec
from edgec.storage.workspace import explained, model_step
from edgec.train.training_data import TrainingSamples
from edgec.verify.metrics import Metric, choose_metric
from edgec.verify.outputs import Outputs, open_outputs
from edgec.verify.reference import float_outputs, with_right_graph
from edgec.verify.weak_float import CAUSES, refuse_inaccurate, weakness
from edgec.workers.log import captured
from edgec.workers.worker import import_ahead

COMPARED_SAMPLES = 128
"""Calibration samples that the float model is run on where it is doubtful on the evaluation samples."""
SHARED = ".all"
"""Where several targets' common inputs are kept while they are built, among the work folders of targets."""


@dataclass(frozen=True)
class Inputs:
    """What one target is built from."""

    model: FloatModel
    """As loaded, before any pass."""
    calibration: Spool | None
    evaluation: Spool
    training: TrainingSamples | None
    metric: Metric
    """``auto`` is still to be settled by the float model's outputs."""
    reference: Outputs | None = None
    """The float model's outputs on the evaluation samples, where it was run already."""


@contextmanager
def shared_inputs(
    plans: Sequence[Plan], root: Path, *, threads: int, subscriber: Subscriber
) -> Iterator[Mapping[str, Inputs]]:
    """Read and judge what several targets are built from, before the first artifact of the first one.

    The model is loaded once, and evaluation samples are read and run once, for all. What is wrong with the data of any
    target (missing, unfit, shared between sets, without the labels that the metric needs), or with the float model on
    it, is known when the context begins; files last until it ends.

    Args:
        plans: of targets of one project; at least one.
        root: the project's folder.
        threads: CPU threads of each toolchain process.
        subscriber: receives the events.

    Returns:
        Inputs by name of the target.

    Raises:
        EdgecError: any error of model, data, labels or metric; WeakFloatError as of `check_float`.
    """
    out = (root / plans[0].project.build.out).absolute()
    refuse_within(out)
    for plan in plans:
        refuse_foreign(out / plan.target.name)
    with build_context(plans[0], root, SHARED, threads=threads, jobs=1, subscriber=subscriber) as context:
        with explained(context.log):
            import_ahead(context.log, threads)
            known: dict[int | None, Inputs] = {}
            for plan in plans:
                context = replace(context, plan=plan)
                inputs = known[plan.calibration_samples] = read_inputs(context, known)
                if plan.prune is not None and inputs.training is not None:
                    inputs.training.read()  # it will be needed, and may be wrong
            reference = run_float(context, known[plan.calibration_samples])
            for inputs in known.values():
                check_float(context, inputs, reference)
        complete = {count: replace(inputs, reference=reference) for count, inputs in known.items()}
        yield {plan.target.name: complete[plan.calibration_samples] for plan in plans}


def read_inputs(context: BuildContext, known: Mapping[int | None, Inputs] | None = None) -> Inputs:
    """Load the model, lay down the samples in the context's scratch folder, and settle the metric.

    Args:
        context: what to read, and where to.
        known: what was read for other targets of the project into the same folder, by their calibration samples.

    Raises:
        DatasetError: samples are missing or do not fit the model.
        DataLeakError: calibration and evaluation data have samples in common.
        LabelsError: labels do not fit the metric or each other.
        EdgecError: any other error of model or metric.
    """
    count = context.plan.calibration_samples
    shared = next(iter(known.values())) if known else _common(context)
    calibration = known[count].calibration if known and count in known else _calibration(context, shared)
    return replace(shared, calibration=calibration)


def run_float(context: BuildContext, inputs: Inputs) -> Outputs:
    """The float model's outputs on the evaluation samples, unless it was run already.

    Raises:
        EdgecError: it does not take them, or an output is NaN.
    """
    if inputs.reference is not None:
        return inputs.reference
    indices = range(len(inputs.evaluation))
    return kept_float_outputs(context, inputs.model, inputs.evaluation, indices, context.scratch / "float")


class _FloatOutputs(Frozen):
    """Outputs of the float model, as they are kept."""

    names: tuple[str, ...]
    """Of the outputs; the k-th one is in ``<k>.npy``."""


def kept_float_outputs(
    context: BuildContext, model: FloatModel, spool: Spool, indices: Sequence[int], out: Path
) -> Outputs:
    """The float model's outputs on samples of a spool, computed unless an earlier build has.

    Args:
        context: of the build.
        model: the float model.
        spool: holds the samples.
        indices: of the samples.
        out: folder for the outputs; made anew.

    Raises:
        EdgecError: as of `edgec.verify.reference.float_outputs`.
    """

    def run() -> _FloatOutputs:
        context.progress(f"run the float model on {len(indices)} samples of {spool.info.origin}")
        samples = [spool[index] for index in indices] if len(indices) < len(spool) else spool
        with captured(context.log), model_step("run", str(context.plan.project.model.path)):
            return _FloatOutputs(names=tuple(float_outputs(model, samples, out, context.threads)))

    names = context.steps.step(
        "float outputs",
        {
            "model": store.fingerprint(model),
            "samples": spool.info.content_digest,
            "indices": list(indices),
            "threads": context.threads,
            "environment": environment().plain(),
        },
        _FloatOutputs,
        run,
        out,
    ).names
    return open_outputs({name: str(out / f"{k}.npy") for k, name in enumerate(names)})


def check_float(context: BuildContext, inputs: Inputs, reference: Outputs) -> tuple[str, ...]:
    """Hold the float model to ``min_accuracy``, and to being better than chance.

    Args:
        context: the plan says what is allowed.
        inputs: what it was run on.
        reference: its outputs on the evaluation samples.

    Returns:
        What is wrong all the same, where the project allows it.

    Raises:
        WeakFloatError: it is not worth compiling as it is fed.
    """
    project = context.plan.project

    def calibrated() -> tuple[Outputs, Array, int] | None:
        spool = inputs.calibration
        if spool is None or spool.labels is None:
            return None
        count, group = min(len(spool), COMPARED_SAMPLES), spool.info.group
        outputs = kept_float_outputs(context, inputs.model, spool, range(count), context.scratch / "float-calibration")
        return outputs, spool.labels[: count * group], group

    with captured(context.log):
        refuse_inaccurate(project.gates, inputs.metric, reference)
    weak = weakness(inputs.metric, reference, calibrated)
    if not weak:
        return ()
    if project.build.allow_weak_float:
        return (f"{weak}; it was built all the same, as allow_weak_float says",)
    info = inputs.evaluation.info
    first = f"; the first sample: {info.first_sample[0]}" if info.first_sample else ""
    raise WeakFloatError(weak, where=info.origin, hint=f"{CAUSES}{first}\n  --allow-weak-float builds it all the same")


def _common(context: BuildContext) -> Inputs:
    """What no target has for itself: model, evaluation samples and metric."""
    project, path = context.plan.project, str(context.plan.project.model.path)
    assert project.evaluation is not None  # make_plan refuses a project without
    context.progress(f"load {path}")
    with captured(context.log), model_step("load", path):
        model = load_model(project.model, context.root)
    evaluation = _spool(context, project.evaluation, model, project.evaluation.samples, "evaluation")
    with captured(context.log), model_step("run", path):
        first = [evaluation[index] for index in range(min(2, len(evaluation)))]
        model = with_right_graph(model, first, context.threads)
    metric = choose_metric(
        project.evaluation.metric, model.outputs, evaluation.labels, context.root,
        seed=project.build.seed, group=evaluation.info.group,
    )  # fmt: skip
    training = None
    if project.train is not None:
        training = TrainingSamples(
            context.plan,
            project.train,
            model.inputs,
            evaluation,
            context.scratch / "training",
            context.root,
            context.progress,
        )
    return Inputs(model, None, evaluation, training, metric)


def _calibration(context: BuildContext, shared: Inputs) -> Spool | None:
    spec, count = context.plan.project.calibration, context.plan.calibration_samples
    if spec is None or count is None:
        return None
    calibration = _spool(context, spec, shared.model, count, "calibration")
    calibration = join(
        calibration, _further(context, spec, shared.model), context.scratch / f"calibration-{count}-joined"
    )
    check_classes(calibration, shared.evaluation)
    return check_disjoint(calibration, shared.evaluation)


def _further(context: BuildContext, spec: CalibrationSpec, model: FloatModel) -> list[Spool]:
    """What ``[calibration] more`` names, each with all of its samples."""
    project = context.plan.project
    spools = []
    for number, data in enumerate(spec.more):
        context.progress(f"read calibration samples of {data}")
        with captured(context.log):
            spool = write_spool(
                DataSpec(data=data), project.preprocess, model.inputs, context.scratch / f"calibration-more-{number}",
                context.root, samples=None, seed=project.build.seed, what="calibration",
            )  # fmt: skip
        spools.append(spool)
    return spools


def _spool(context: BuildContext, spec: DataSpec, model: FloatModel, samples: int | None, what: Purpose) -> Spool:
    project = context.plan.project
    context.progress(f"read {what} samples of {spec.data}")
    folder = context.scratch / (what if what == "evaluation" else f"{what}-{samples}")
    with captured(context.log):
        return write_spool(
            spec,
            project.preprocess,
            model.inputs,
            folder,
            context.root,
            samples=samples,
            seed=project.build.seed,
            what=what,
        )
