"""What a finished artifact's bundle keeps of its calibrated ranges: `edgec validate` holds new samples against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.errors import CONCERNS_ALL, EdgecError
from edgec.build.artifact import BuiltArtifact
from edgec.build.job import BuildData, Job
from edgec.build.processes import Processes
from edgec.model.spec import Array
from edgec.passes.contract import Coverage
from edgec.verify.ranges import (
    RangeRecord,
    input_ranges,
    input_uses,
    observed_indices,
    range_record,
    unwatched_inputs,
    why_not,
)
from edgec.verify.requests import RangesAnswer, RangesRequest
from edgec.verify.run import imports_of


def with_ranges(built: BuiltArtifact, job: Job, data: BuildData, processes: Processes) -> BuiltArtifact:
    """`built` with its ranges on evaluation samples; that activations cannot be looked at is told in its coverage."""
    if built.attempt.refused:
        return built
    try:
        record = _observed(built, job, data, processes)
    except EdgecError as error:
        if isinstance(error, CONCERNS_ALL):
            raise
        record = _of_inputs(data, error.what)
    coverage = built.coverage
    if record.reason and not why_not(built.artifact):
        coverage += (Coverage(subject=built.artifact.file, state="ranges not observed", reason=record.reason),)
    return replace(built, ranges=record, coverage=coverage)


def _observed(built: BuiltArtifact, job: Job, data: BuildData, processes: Processes) -> RangeRecord:
    artifact, evaluation = built.artifact, data.evaluation
    worked = [item.runtime for item in built.measurements if item.judged and not item.failure]
    if reason := why_not(artifact) or ("" if worked else "no runtime runs it"):
        return _of_inputs(data, reason)
    indices, out = observed_indices(evaluation), built.attempt.folder / "ranges.npy"
    watched = processes.call(
        "edgec.verify.ranges:observe_ranges",
        RangesRequest(
            artifact=artifact,
            file=built.file,
            runtime=worked[0],
            spool=evaluation.folder,
            indices=tuple(indices),
            threads=job.threads,
            out=out,
        ),
        RangesAnswer,
        what=f"{artifact.file} in {worked[0]}",
        threads=job.threads,
        imports=imports_of(artifact),
        on_progress=lambda step: job.progress(f"{artifact.file}: {step}"),
    ).value.ranges
    inputs = unwatched_inputs(input_ranges(data.calibration or evaluation), watched)
    found: Array = np.concatenate([np.load(out), input_uses(inputs, evaluation, indices)], axis=1)
    return range_record((*watched, *inputs), found, runtime=worked[0])


def _of_inputs(data: BuildData, reason: str) -> RangeRecord:
    inputs, indices = input_ranges(data.calibration or data.evaluation), observed_indices(data.evaluation)
    return range_record(inputs, input_uses(inputs, data.evaluation, indices), runtime="", reason=reason)
