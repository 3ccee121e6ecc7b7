"""Making the artifacts of one build: each climbs the accuracy ladder in a thread and a process of its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from edgec.backend.protocol import Artifact, LayerFidelity, RuntimeSpec
from edgec.backend.registry import require_packages
from edgec.errors import EdgecError, WorkerError
from edgec.execute.artifact import BuiltArtifact, FailedArtifact, outputs_folder
from edgec.execute.job import Job, Judged
from edgec.execute.processes import Processes
from edgec.execute.timing import timed
from edgec.execute.training import Training
from edgec.ladder.climb import Climb, Climbed
from edgec.ladder.rungs import first_recipe
from edgec.ladder.sensitivity import pinned
from edgec.ladder.trial import Scoring, Trial
from edgec.log import captured
from edgec.passes.contract import FELL_BACK, Coverage
from edgec.plan import PlannedEmit
from edgec.verify.gates import judge
from edgec.verify.measure import measure
from edgec.verify.records import Measurement
from edgec.verify.reference import float_outputs
from edgec.worker import WorkerResult

SCORED_SAMPLES = 64
"""Calibration samples that candidates of a rung are compared on."""


def make_artifacts(job: Job, judged: Judged, *, keep_going: bool) -> tuple[BuiltArtifact | FailedArtifact, ...]:
    """Make all artifacts of a plan, up to ``job.jobs`` at once, and time them one after the other.

    Args:
        job: what to do, and where.
        judged: what they are measured against.
        keep_going: a failure concerns its artifact only; else the first one ends all.

    Raises:
        EdgecError: an artifact cannot be made, and `keep_going` is false.
    """
    processes = Processes(job.log)
    maker = _Maker(job, judged, processes)
    items = job.plan.emits
    with ThreadPoolExecutor(max_workers=min(job.jobs, len(items))) as pool:
        futures = [pool.submit(maker.make, item) for item in items]
        try:
            if not keep_going:
                _raise_first(futures)
            made = tuple(_result(future, item) for future, item in zip(futures, items, strict=True))
        except BaseException:
            for future in futures:
                future.cancel()
            processes.stop()
            raise
    if not job.in_full:
        return made
    evaluation = judged.data.evaluation
    return tuple(timed(item, job, evaluation, processes) if isinstance(item, BuiltArtifact) else item for item in made)


def _raise_first(futures: Sequence[Future[BuiltArtifact]]) -> None:
    """Wait for all, or for the first that fails."""
    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
        future.result()


def _result(future: Future[BuiltArtifact], item: PlannedEmit) -> BuiltArtifact | FailedArtifact:
    try:
        return future.result()
    except EdgecError as error:
        return FailedArtifact(item.file, error)


class _Maker:
    """Makes artifacts, each in a thread and a process of its own."""

    def __init__(self, job: Job, judged: Judged, processes: Processes) -> None:
        self._job, self._judged = job, judged
        self._processes = processes
        self._measuring = threading.Lock()
        """The user's metric is one at a time: its module and its random numbers are those of the process."""
        self._training = Training(job, judged.data, processes)
        budget = job.plan.project.build.time_budget
        self._deadline = math.inf if budget is None else time.monotonic() + budget
        self._scoring = self._scored_samples()

    def _scored_samples(self) -> Scoring | None:
        calibration = self._judged.data.calibration
        if calibration is None:
            return None
        count = len(calibration)
        limit = min(count, SCORED_SAMPLES)
        indices = [index * count // limit for index in range(limit)]
        samples = [calibration[index] for index in indices]
        out = self._job.scratch / "scored"
        with captured(self._job.log):
            return Scoring(
                calibration, indices, float_outputs(self._judged.data.model, samples, out, self._job.threads)
            )

    def make(self, item: PlannedEmit) -> BuiltArtifact:
        """Climb the ladder for one artifact."""
        require_packages(item.backend, self._job.plan.target.precision)
        job, plan = self._job, self._job.plan
        # times are taken at the end, when nothing else runs: no rung can be judged by them
        budget = plan.target.budget.model_copy(update={"latency_ms": None, "min_speedup": None})
        untimed = plan.target.model_copy(update={"budget": budget})
        with Trial(
            target=plan.target,
            item=item,
            model=job.scratch / "model",
            trained=self._training.model,
            scoring=self._scoring,
            scratch=job.scratch / f"emit-{item.index}",
            calibration=self._judged.data.calibration,
            seed=plan.project.build.seed,
            threads=job.threads,
            log=job.log,
            progress=lambda step: job.progress(f"{item.file}: {step}"),
            verify=self._verify,
            judge=lambda found: judge(plan.project.gates, untimed, found),
            cells=job.cells(self._judged, item),
        ) as trial:
            self._processes.watch(trial)
            locked = job.locked(item)
            climb = Climb(trial, self._deadline, bound=job.bound)
            climbed = climb.run(item.ladder, pinned(trial, first_recipe(plan.target)), locked)
            return self._built(trial, climbed)

    def _built(self, trial: Trial, climbed: Climbed) -> BuiltArtifact:
        attempt, file = climbed.attempt, climbed.attempt.artifact.file
        coverage: tuple[Coverage, ...] = ()
        layers: tuple[LayerFidelity, ...] = ()
        twin: tuple[Artifact, Path] | None = None
        if attempt.precision != trial.target.precision:
            reason = climbed.rungs[-1].reason
            coverage += (Coverage(subject=file, state=f"{FELL_BACK}{attempt.precision}", reason=reason),)
        elif attempt.precision == "int8" and not attempt.missed and self._job.in_full:
            try:
                layers = trial.compare_layers(attempt.recipe)
            except EdgecError as error:
                coverage += (Coverage(subject=file, state="layers not compared", reason=error.what),)
        if attempt.precision != "fp32" and not attempt.missed and self._job.in_full:
            try:
                twin = trial.twin()
            except EdgecError as error:
                coverage += (Coverage(subject=file, state="speed-up not measured", reason=error.what),)
        if attempt.recipe.train:
            coverage += self._training.coverage(trial.grid, file)
        passes = (*self._judged.portable, *attempt.passes)
        return BuiltArtifact(attempt, passes, climbed.rungs, layers, coverage, climbed.hurried, twin)

    def _verify(self, artifact: Artifact, folder: Path, runtime: RuntimeSpec) -> Measurement:
        job, judged = self._job, self._judged
        threads = job.plan.target.bench.threads

        def run() -> WorkerResult:
            return self._processes.call(
                "edgec.verify.run:run_artifact",
                {
                    "artifact": artifact.model_dump(mode="json"),
                    "file": str(folder / artifact.file),
                    "runtime": runtime.name,
                    "spool": str(judged.data.evaluation.folder),
                    "out": str(outputs_folder(folder, runtime.name)),
                    "threads": threads,
                },
                what=f"{artifact.file} in {runtime.name}",
                threads=threads,
                on_progress=lambda step: job.progress(f"{artifact.file}: {step}"),
            )

        result: WorkerResult | EdgecError
        try:
            try:
                result = run()
            except WorkerError:
                result = run()  # it may have been killed for want of memory
        except WorkerError as error:
            result = error  # a runtime that crashes over an artifact is a finding about the artifact
        file = folder / artifact.file
        with self._measuring:
            return measure(artifact, file, runtime, result, judged.reference, judged.metric, judged.machine)
