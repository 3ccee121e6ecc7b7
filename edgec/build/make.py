"""Making the artifacts of one build: each climbs the accuracy ladder in a thread and a process of its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from edgec.backends.interface import Artifact, LayerFidelity, OpDifference, RuntimeSpec
from edgec.errors import CONCERNS_ALL, EdgecError, UnsupportedError, WorkerError
from edgec.build.artifact import BuiltArtifact, FailedArtifact, below_goal, outputs_folder
from edgec.build.job import Job, Judged
from edgec.build.processes import Processes
from edgec.build.ranges import with_ranges
from edgec.build.timing import timed
from edgec.train.once import Training
from edgec.storage.workspace import model_step
from edgec.ladder.climb import Climb, Climbed
from edgec.plan.rungs import Rung, first_recipe, linear_first
from edgec.ladder.sensitivity import pinned
from edgec.ladder.trial import Scoring, Trial
from edgec.workers.log import captured
from edgec.passes.attention_share import attention_rules
from edgec.passes.contract import FELL_BACK, Coverage
from edgec.plan.plan import PlannedEmit, require_toolchain
from edgec.verify.gates import judge
from edgec.verify.measure import measure
from edgec.verify.records import Measurement
from edgec.verify.reference import float_outputs
from edgec.verify.requests import DifferenceAnswer, DifferenceRequest, RunAnswer, RunRequest
from edgec.verify.run import imports_of
from edgec.workers.worker import WorkerResult

SCORED_SAMPLES = 64
"""Calibration samples that candidates of a rung are compared on."""


def make_artifacts(job: Job, judged: Judged, *, all_or_nothing: bool) -> tuple[BuiltArtifact | FailedArtifact, ...]:
    """Make all artifacts of a plan, up to ``job.jobs`` at once, and time them one after the other.

    Args:
        job: what to do, and where.
        judged: what they are measured against.
        all_or_nothing: the first artifact that cannot be made ends all; else it is the only one that is not made.

    Raises:
        EdgecError: what is wrong concerns all artifacts (`edgec.errors.CONCERNS_ALL`), or, with `all_or_nothing`, one.
    """
    processes = Processes(job.log)
    maker = _Maker(job, judged, processes, all_or_nothing=all_or_nothing)
    items = job.plan.emits
    with ThreadPoolExecutor(max_workers=min(job.jobs, len(items))) as pool:
        futures = [pool.submit(maker.make, item) for item in items]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            made = tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            processes.stop()
            raise
    if not job.in_full:
        return made
    data = judged.data
    return tuple(
        timed(with_ranges(item, job, data, processes), job, data.evaluation, processes)
        if isinstance(item, BuiltArtifact)
        else item
        for item in made
    )


class _Maker:
    """Makes artifacts, each in a thread and a process of its own."""

    def __init__(self, job: Job, judged: Judged, processes: Processes, *, all_or_nothing: bool) -> None:
        self._job, self._judged = job, judged
        self._all_or_nothing = all_or_nothing
        self._processes = processes
        self._measuring = threading.Lock()
        """The user's metric is one at a time: its module and its random numbers are those of the process."""
        self._training = Training(job, judged.data, processes)
        self._deadline = time.monotonic() + job.plan.project.build.time_budget
        self._scoring = self._scored_samples()
        self._attention_rules = attention_rules(judged.data.model)

    def _scored_samples(self) -> Scoring | None:
        calibration = self._judged.data.calibration
        if calibration is None:
            return None
        count = len(calibration)
        limit = min(count, SCORED_SAMPLES)
        indices = [index * count // limit for index in range(limit)]
        samples = [calibration[index] for index in indices]
        out = self._job.scratch / "scored"
        job, model = self._job, self._judged.data.model
        with captured(job.log), model_step("run", str(job.plan.project.model.path)):
            return Scoring(calibration, indices, float_outputs(model, samples, out, job.threads))

    def make(self, item: PlannedEmit) -> BuiltArtifact | FailedArtifact:
        """Climb the ladder for one artifact; why it cannot be made is returned, unless it concerns others too."""
        try:
            require_toolchain(self._job.plan, item)
            return self._climb(item)
        except EdgecError as error:
            if isinstance(error, CONCERNS_ALL):
                raise
            if not error.where.startswith(item.file):
                error.where = f"{item.file}: {error.where}" if error.where else item.file
            if self._all_or_nothing:
                raise
            error.log = error.log or str(self._job.log)
            self._job.progress(f"{item.file}: cannot be made: {error.what}")
            return FailedArtifact(item.file, error)

    def _climb(self, item: PlannedEmit) -> BuiltArtifact:
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
            differ=self._differ,
            judge=lambda found: judge(plan.project.gates, untimed, found),
            cells=job.cells(self._judged, item),
        ) as trial:
            self._processes.watch(trial)
            locked = job.locked(item)
            climb = Climb(trial, self._deadline, bound=job.bound)
            climbed = climb.run(self._ladder(item), pinned(trial, first_recipe(plan.target)), locked)
            return self._built(trial, climbed)

    def _ladder(self, item: PlannedEmit) -> tuple[Rung, ...]:
        return linear_first(item.ladder) if self._attention_rules else item.ladder

    def _built(self, trial: Trial, climbed: Climbed) -> BuiltArtifact:
        attempt, file = climbed.attempt, climbed.attempt.artifact.file
        coverage = attempt.left_out + below_goal(attempt.gates)
        layers: tuple[LayerFidelity, ...] = ()
        twin: tuple[Artifact, Path] | None = None
        if attempt.precision != trial.target.precision:
            reason = climbed.rungs[-1].reason
            coverage += (Coverage(subject=file, state=f"{FELL_BACK}{attempt.precision}", reason=reason),)
        elif attempt.precision == "int8" and not attempt.refused and self._job.in_full:
            try:
                layers = trial.compare_layers(attempt.recipe)
            except EdgecError as error:
                coverage += (Coverage(subject=file, state="layers not compared", reason=error.what),)
        if attempt.precision != "fp32" and not attempt.refused and self._job.in_full:
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

        def run() -> WorkerResult[RunAnswer]:
            return self._processes.call(
                "edgec.verify.run:run_artifact",
                RunRequest(
                    artifact=artifact,
                    file=folder / artifact.file,
                    runtime=runtime.name,
                    spool=judged.data.evaluation.folder,
                    out=outputs_folder(folder, runtime.name),
                    threads=threads,
                ),
                RunAnswer,
                what=f"{artifact.file} in {runtime.name}",
                threads=threads,
                imports=imports_of(artifact),
                on_progress=lambda step: job.progress(f"{artifact.file}: {step}"),
            )

        result: WorkerResult[RunAnswer] | EdgecError
        try:
            result = UnsupportedError(runtime.missing) if runtime.missing else run()
        except WorkerError:
            try:
                result = run()  # it may have been killed for want of memory
            except WorkerError as error:
                result = error  # a runtime that crashes over an artifact is a finding about the artifact
        file = folder / artifact.file
        with self._measuring:
            return measure(artifact, file, runtime, result, judged.reference, judged.metric, judged.machine)

    def _differ(self, artifact: Artifact, folder: Path, right: str, wrong: str) -> OpDifference | None:
        job, threads = self._job, self._job.plan.target.bench.threads
        try:
            return self._processes.call(
                "edgec.verify.run:first_difference",
                DifferenceRequest(
                    artifact=artifact,
                    file=folder / artifact.file,
                    right=right,
                    wrong=wrong,
                    spool=self._judged.data.evaluation.folder,
                    threads=threads,
                ),
                DifferenceAnswer,
                what=f"{artifact.file} in {wrong}",
                threads=threads,
                imports=imports_of(artifact),
                on_progress=lambda step: job.progress(f"{artifact.file}: {step}"),
            ).value.op
        except EdgecError:
            return None  # that it is wrong is known without it
