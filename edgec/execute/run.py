"""Running a plan to its end: prepare, run the float model, make and time the artifacts, and judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgec.backend.registry import require_packages
from edgec.execute.artifact import BuiltArtifact, FailedArtifact
from edgec.execute.job import BuildData, Job, Judged
from edgec.execute.make import make_artifacts
from edgec.execute.metric_reads import try_metric
from edgec.execute.prepare import prepare
from edgec.log import captured
from edgec.machine import host_machine
from edgec.project.record import code_digests
from edgec.verify.gates import judge
from edgec.verify.records import GateResult
from edgec.verify.reference import float_outputs


@dataclass(frozen=True)
class BuildResult:
    """What a build made and measured."""

    data: BuildData
    built: tuple[BuiltArtifact, ...]
    gates: tuple[GateResult, ...]
    failures: tuple[FailedArtifact, ...]
    code: Mapping[str, str]
    """SHA-256 (hex) of the code of metric, loss and training function, and of all that the metric reads."""


def run_plan(job: Job, *, keep_going: bool) -> BuildResult:
    """Compile, run and judge all artifacts of a plan.

    Args:
        job: what to do, and where.
        keep_going: go on with the other artifacts when one cannot be compiled.

    Raises:
        EdgecError: any error of the tree; with `keep_going`, only one that concerns all artifacts, or the
            first artifact's when none could be compiled.
    """
    plan = job.plan
    if not keep_going:
        for item in plan.emits:
            require_packages(item.backend, plan.target.precision)
    code = code_digests(plan.project, job.root)
    prepared = prepare(job)
    data = prepared.data
    job.progress(f"run the float model on {len(data.evaluation)} samples")
    with captured(job.log):
        reference = float_outputs(data.model, data.evaluation, job.scratch / "float", job.threads)
        reads = try_metric(prepared.metric, reference, job.root, job.scratch, known=code)
    job.metric_ran(reads)
    judged = Judged(data, reference, prepared.metric, host_machine(), prepared.portable)
    made = make_artifacts(job, judged, keep_going=keep_going)
    failures = tuple(item for item in made if isinstance(item, FailedArtifact))
    built = tuple(item for item in made if isinstance(item, BuiltArtifact))
    if not built:
        raise failures[0].error
    gates = judge(plan.project.gates, plan.target, [item for one in built for item in one.measurements])
    return BuildResult(data, built, gates, failures, {**code, **reads})
