"""What comes before any artifact: doubts about the inputs, and the passes that all artifacts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.build.inputs import Inputs
from edgec.check.build import findings_of
from edgec.check.records import Finding
from edgec.frozen import Frozen
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext, PassRecord
from edgec.passes.runner import run_passes
from edgec.plan.context import BuildContext
from edgec.plan.identity import environment
from edgec.prune.run import prune
from edgec.storage.workspace import model_step
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.workers.log import captured


@dataclass(frozen=True)
class Prepared:
    """A build before its first artifact."""

    inputs: Inputs
    reference: Outputs
    """Of the float model, on the evaluation samples."""
    metric: Metric
    passes: tuple[PassRecord, ...]
    """The portable passes. The model after them is in `BuildContext.model`."""
    notes: tuple[str, ...] = ()
    """What had to be assumed about the model, the data and the metric."""
    findings: tuple[Finding, ...] = ()
    """What is doubtful about the inputs."""
    code: Mapping[str, str] | None = None
    """SHA-256 (hex) of the code of metric, loss and training function, and of all that the metric reads."""
    read: tuple[str, ...] = ()
    """Files that the metric reads."""


class _Transformed(Frozen):
    """What portable passes have done, as it is kept beside the stored model."""

    passes: tuple[PassRecord, ...]
    notes: tuple[str, ...]


def find_problems(context: BuildContext, inputs: Inputs) -> tuple[Finding, ...]:
    """What is doubtful about the model and the samples."""
    with captured(context.log), model_step("look at", str(context.plan.project.model.path)):
        return findings_of(context.plan, inputs.model, inputs.calibration, inputs.evaluation)


def transform(context: BuildContext, inputs: Inputs) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    """Run the portable passes, pruning among them, and store the model where worker processes find it.

    Args:
        context: of the build; the model is then in its ``model`` folder.
        inputs: the float model, and the samples for pruning.

    Returns:
        Records of the passes, and notes about the model.

    Raises:
        EdgecError: as passes raise.
    """
    if context.plan.prune is not None:  # which has a cache of its own
        return _transform(context, inputs)

    def transformed() -> _Transformed:
        passes, notes = _transform(context, inputs)
        return _Transformed(passes=passes, notes=notes)

    spool, steps = inputs.calibration, (*context.plan.before_pruning, *context.plan.after_pruning)
    done = context.steps.step(
        "portable passes",
        {
            "model": store.fingerprint(inputs.model),
            "passes": [repr(step) for step in steps],
            "calibration": spool.info.content_digest if spool else None,
            "seed": context.plan.project.build.seed,
            "threads": context.threads,
            "environment": environment().plain(),
        },
        _Transformed,
        transformed,
        context.model,
    )
    return done.passes, done.notes


def _transform(context: BuildContext, inputs: Inputs) -> tuple[tuple[PassRecord, ...], tuple[str, ...]]:
    plan, path = context.plan, str(context.plan.project.model.path)
    pass_context = PassContext(
        plan.target, context.scratch, inputs.calibration, plan.project.build.seed, context.threads
    )  # fmt: skip

    def run(passes: Sequence[Pass[FloatModel]], model: FloatModel) -> tuple[FloatModel, tuple[PassRecord, ...]]:
        with captured(context.log), model_step("transform", path):
            return run_passes(passes, model, pass_context, store.fingerprint, on_progress=context.progress)

    model, records = run(plan.before_pruning, inputs.model)
    if plan.prune is not None:
        model, record = prune(context, plan.prune, model, inputs.training, inputs.calibration, inputs.evaluation)
        records += (record,)
    model, more = run(plan.after_pruning, model)
    with captured(context.log), model_step("store", path):
        notes = store.save(model, context.model)
    return (*records, *more), notes
