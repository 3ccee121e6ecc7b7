"""What a finished artifact's bundle keeps of its calibrated ranges: `edgec validate` holds new samples against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgec.build.artifact import BuiltArtifact
from edgec.build.inputs import Inputs
from edgec.errors import CONCERNS_ALL, EdgecError
from edgec.ladder.verifier import run_inputs
from edgec.model.spec import Array
from edgec.passes.coverage import Coverage
from edgec.plan.context import BuildContext
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
from edgec.workers.group import WorkerGroup


def with_ranges(built: BuiltArtifact, context: BuildContext, inputs: Inputs, workers: WorkerGroup) -> BuiltArtifact:
    """`built` with its ranges on evaluation samples; what cannot be observed is recorded in its coverage."""
    if built.attempt.refused:
        return built
    try:
        record = _observed(built, context, inputs, workers)
    except EdgecError as error:
        if isinstance(error, CONCERNS_ALL):
            raise
        record = _of_inputs(inputs, error.what)
    coverage = built.coverage
    if record.reason and not why_not(built.artifact):
        coverage += (Coverage(subject=built.artifact.file, state="ranges not observed", reason=record.reason),)
    return replace(built, ranges=record, coverage=coverage)


def _observed(built: BuiltArtifact, context: BuildContext, inputs: Inputs, workers: WorkerGroup) -> RangeRecord:
    artifact, evaluation = built.artifact, inputs.evaluation
    runtimes = built.working_runtimes
    if reason := why_not(artifact) or ("" if runtimes else "no runtime runs it"):
        return _of_inputs(inputs, reason)
    indices, folder = observed_indices(evaluation), built.attempt.folder / "ranges"
    out = folder / "ranges.npy"

    def observe() -> RangesAnswer:
        return workers.call(
            "edgec.verify.ranges:observe_ranges",
            RangesRequest(
                artifact=artifact,
                file=built.file,
                runtime=runtimes[0],
                spool=evaluation.folder,
                indices=tuple(indices),
                threads=context.threads,
                out=out,
            ),
            RangesAnswer,
            what=f"{artifact.file} in {runtimes[0]}",
            threads=context.threads,
            imports=imports_of(artifact),
            on_progress=lambda step: context.progress(f"{artifact.file}: {step}"),
        ).value

    depends = run_inputs(artifact, built.file, runtimes[0], evaluation, context.threads)
    watched = context.steps.step("ranges", {**depends, "indices": list(indices)}, RangesAnswer, observe, folder).ranges
    unwatched = unwatched_inputs(input_ranges(inputs.calibration or evaluation), watched)
    uses: Array = np.concatenate([np.load(out), input_uses(unwatched, evaluation, indices)], axis=1)
    return range_record((*watched, *unwatched), uses, runtime=runtimes[0])


def _of_inputs(inputs: Inputs, reason: str) -> RangeRecord:
    ranges, indices = input_ranges(inputs.calibration or inputs.evaluation), observed_indices(inputs.evaluation)
    return range_record(ranges, input_uses(ranges, inputs.evaluation, indices), runtime="", reason=reason)
