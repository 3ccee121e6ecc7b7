"""Times of finished artifacts, each in turns with its float32 twin, while nothing else of the build runs."""

from __future__ import annotations

from dataclasses import replace

from edgec.build.artifact import BuiltArtifact
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError
from edgec.ladder.verifier import run_inputs
from edgec.passes.coverage import Coverage
from edgec.plan.context import BuildContext
from edgec.verify.records import Measurement
from edgec.verify.requests import ArtifactFile, TimingAnswer, TimingRequest
from edgec.verify.run import imports_of
from edgec.workers.group import WorkerGroup


def timed(built: BuiltArtifact, context: BuildContext, evaluation: Spool, workers: WorkerGroup) -> BuiltArtifact:
    """`built` with its times in each runtime that runs it; what could not be timed is recorded in its coverage."""
    if built.attempt.refused:
        return built
    measurements: list[Measurement] = []
    coverage: list[Coverage] = []
    for item in built.measurements:
        try:
            measurements.append(item if item.failure else _timed(built, item, context, evaluation, workers))
        except EdgecError as error:
            measurements.append(item)
            subject = f"{item.artifact} in {item.runtime}"
            coverage.append(Coverage(subject=subject, state="not timed", reason=error.what))
    attempt = replace(built.attempt, measurements=tuple(measurements))
    return replace(built, attempt=attempt, coverage=(*built.coverage, *coverage))


def _timed(
    built: BuiltArtifact, measured: Measurement, context: BuildContext, evaluation: Spool, workers: WorkerGroup
) -> Measurement:
    bench = context.plan.target.bench
    pair = [built.attempt.made, *([built.twin] if built.twin else [])]

    def time() -> TimingAnswer:
        return workers.call(
            "edgec.verify.speed:time_artifacts",
            TimingRequest(
                artifacts=tuple(ArtifactFile(artifact=one.artifact, file=one.file) for one in pair),
                runtime=measured.runtime,
                spool=evaluation.folder,
                threads=bench.threads,
                warmup=bench.warmup,
                runs=bench.runs,
            ),
            TimingAnswer,
            what=f"{built.artifact.file} in {measured.runtime}",
            threads=bench.threads,
            imports=imports_of(built.artifact),
            on_progress=lambda step: context.progress(f"{built.artifact.file}: {step}"),
        ).value

    inputs = {
        "artifacts": [run_inputs(one.artifact, one.file, measured.runtime, evaluation, bench.threads) for one in pair],
        "bench": bench.plain(),
        "machine": measured.machine.plain(),
    }
    result = time() if context.retime else context.steps.step("times", inputs, TimingAnswer, time)
    return measured.model_copy(update={"latency": result.latency, "speed": result.speed})
