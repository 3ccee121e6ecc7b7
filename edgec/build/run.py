"""Running a plan to its end: prepare, run the float model, make and time the artifacts, and judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edgec.build.artifact import BuiltArtifact, FailedArtifact
from edgec.build.inputs import check_float, read_inputs, run_float
from edgec.build.job import BuildData, Job, Judged
from edgec.build.make import make_artifacts
from edgec.build.metric_reads import try_metric
from edgec.build.prepare import begin, transform
from edgec.build.settle_metric import settle_metric
from edgec.workers.log import captured
from edgec.machine import host_machine
from edgec.plan.plan import require_any_toolchain, require_toolchain
from edgec.project.record import code_digests
from edgec.verify.gates import judge
from edgec.verify.records import GateResult
from edgec.workers.worker import import_ahead


@dataclass(frozen=True)
class BuildResult:
    """What a build made and measured."""

    data: BuildData
    built: tuple[BuiltArtifact, ...]
    """May miss gates (`edgec.build.accept`)."""
    gates: tuple[GateResult, ...]
    failures: tuple[FailedArtifact, ...]
    code: Mapping[str, str]
    """SHA-256 (hex) of the code of metric, loss and training function, and of all that the metric reads."""


def run_plan(job: Job, *, all_or_nothing: bool = False) -> BuildResult:
    """Compile, run and judge all artifacts of a plan.

    Args:
        job: what to do, and where.
        all_or_nothing: the first artifact that cannot be made ends the run.

    Raises:
        EdgecError: what is wrong concerns all artifacts, or no backend has its packages; with `all_or_nothing`, any
            error of the tree.
    """
    plan = job.plan
    require_any_toolchain(plan)
    for item in plan.emits if all_or_nothing else ():
        require_toolchain(plan, item)
    import_ahead(job.log, job.threads)
    code = code_digests(plan.project, job.root)
    inputs = job.inputs or read_inputs(job)
    found = begin(job, inputs)
    reference = run_float(job, inputs) if inputs.reference is None else inputs.reference
    with captured(job.log):
        metric, notes = settle_metric(plan.project, found.data, found.metric, reference)
        reads = try_metric(metric, reference, job.root, job.scratch, known=code)
    job.metric_ran(reads)
    weak = check_float(job, inputs, reference)
    prepared = transform(job, found)
    data = replace(prepared.data, notes=(*prepared.data.notes, *notes, *weak))
    judged = Judged(data, reference, metric, host_machine(), prepared.portable)
    made = make_artifacts(job, judged, all_or_nothing=all_or_nothing)
    failures = tuple(item for item in made if isinstance(item, FailedArtifact))
    built = tuple(item for item in made if isinstance(item, BuiltArtifact))
    gates = judge(plan.project.gates, plan.target, [item for one in built for item in one.measurements])
    return BuildResult(data, built, gates, failures, {**code, **reads})
