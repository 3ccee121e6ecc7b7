"""Times of finished artifacts, each in turns with its float32 twin, while nothing else of the build runs."""

from __future__ import annotations

from dataclasses import replace

from edgec.dataset.spool import Spool
from edgec.errors import EdgecError
from edgec.build.artifact import BuiltArtifact
from edgec.build.job import Job
from edgec.build.processes import Processes
from edgec.passes.contract import Coverage
from edgec.verify.records import Measurement
from edgec.verify.requests import ArtifactFile, TimingAnswer, TimingRequest
from edgec.verify.run import imports_of


def timed(built: BuiltArtifact, job: Job, evaluation: Spool, processes: Processes) -> BuiltArtifact:
    """`built` with its times in each runtime that runs it; what could not be timed is told in its coverage."""
    if built.attempt.refused:
        return built
    measurements: list[Measurement] = []
    coverage: list[Coverage] = []
    for item in built.measurements:
        try:
            measurements.append(item if item.failure else _timed(built, item, job, evaluation, processes))
        except EdgecError as error:
            measurements.append(item)
            subject = f"{item.artifact} in {item.runtime}"
            coverage.append(Coverage(subject=subject, state="not timed", reason=error.what))
    attempt = replace(built.attempt, measurements=tuple(measurements))
    return replace(built, attempt=attempt, coverage=(*built.coverage, *coverage))


def _timed(
    built: BuiltArtifact, measured: Measurement, job: Job, evaluation: Spool, processes: Processes
) -> Measurement:
    bench = job.plan.target.bench
    pair = [(built.artifact, built.file)]
    if built.twin is not None:
        pair.append((built.twin[0], built.twin[1] / built.twin[0].file))
    result = processes.call(
        "edgec.verify.speed:time_artifacts",
        TimingRequest(
            artifacts=tuple(ArtifactFile(artifact=one, file=file) for one, file in pair),
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
        on_progress=lambda step: job.progress(f"{built.artifact.file}: {step}"),
    ).value
    return measured.model_copy(update={"latency": result.latency, "speed": result.speed})
