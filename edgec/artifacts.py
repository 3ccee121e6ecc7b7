"""Making the artifacts of one build: each climbs the accuracy ladder, in threads; then each is timed, alone."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.backend.protocol import Artifact, LayerFidelity, RuntimeSpec
from edgec.backend.registry import require_packages
from edgec.cache import Cache
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, ProjectError, WorkerError
from edgec.ladder.cells import Cells, identify
from edgec.ladder.climb import Climb, Climbed
from edgec.ladder.lock import LockedArtifact
from edgec.ladder.rungs import first_recipe
from edgec.ladder.sensitivity import pinned
from edgec.ladder.trial import Attempt, Scoring, Trial, TrialStoppedError
from edgec.log import captured
from edgec.machine import Machine
from edgec.model.spec import FloatModel
from edgec.passes.contract import FELL_BACK, Coverage, PassRecord
from edgec.plan import Plan, PlannedEmit
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.target.spec import WEIGHT_ONLY
from edgec.verify.gates import judge
from edgec.verify.measure import measure
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.verify.records import Latency, Measurement, RungRecord, Speed
from edgec.verify.reference import float_outputs
from edgec.worker import Worker, WorkerResult

SCORED_SAMPLES = 64
"""Calibration samples that candidates of a rung are compared on."""

Progress = Callable[[str], None]
"""Told each step of the build as it begins, one short line."""


@dataclass(frozen=True)
class BuildData:
    """What a build was made from."""

    model: FloatModel
    """As loaded, before any pass."""
    notes: tuple[str, ...]
    """What loading and tracing the model had to assume."""
    calibration: Spool | None
    evaluation: Spool
    training: Spool | None = None


@dataclass(frozen=True)
class Job:
    """What all steps of one build share."""

    plan: Plan
    root: Path
    """Folder that the project's paths are relative to."""
    scratch: Path
    """Private folder of this build; the model after the portable passes is in its ``model``."""
    log: Path
    """Receives everything that toolchains print."""
    threads: int
    """CPU threads of each process."""
    jobs: int
    """Artifacts that are made at once. Times are always taken one after the other."""
    progress: Progress
    locked: Callable[[BuildData, PlannedEmit], LockedArtifact | None] = lambda data, item: None
    """What an earlier build of the same inputs has settled on."""
    checkpoints: Path = Path()
    """Folder of what training has reached, kept between builds."""
    cache: Cache | None = None
    """Scores of recipes that earlier runs have left."""

    def cells(self, judged: Judged, item: PlannedEmit) -> Cells | None:
        """What is kept of one artifact."""
        if self.cache is None:
            return None
        data, seed = judged.data, self.plan.project.build.seed
        identity = identify(
            self.plan.target, item, judged.portable, data.calibration, judged.machine, seed, self.threads
        )
        return Cells(self.cache, identity)


@dataclass(frozen=True)
class Judged:
    """What every artifact is measured against."""

    data: BuildData
    reference: Outputs
    """Of the float model, on the evaluation samples."""
    metric: Metric
    machine: Machine
    portable: tuple[PassRecord, ...]
    """Passes over the float model that all artifacts have in common."""


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with everything known about it."""

    attempt: Attempt
    passes: tuple[PassRecord, ...]
    """Of the float model, then of the backend."""
    rungs: tuple[RungRecord, ...]
    layers: tuple[LayerFidelity, ...]
    coverage: tuple[Coverage, ...]
    hurried: bool
    """Whether time ran out before all rungs were tried."""
    twin: tuple[Artifact, Path] | None
    """The same in float32, and its folder; None when this is that."""

    @property
    def artifact(self) -> Artifact:
        """What was emitted."""
        return self.attempt.artifact

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.attempt.folder / self.artifact.file

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """One for each runtime."""
        return self.attempt.measurements


@dataclass(frozen=True)
class FailedArtifact:
    """An artifact that `keep_going` went on without."""

    file: str
    error: EdgecError


def make_artifacts(job: Job, judged: Judged, *, keep_going: bool) -> tuple[BuiltArtifact | FailedArtifact, ...]:
    """Make all artifacts of a plan, up to ``job.jobs`` at once, and time them one after the other.

    Args:
        job: what to do, and where.
        judged: what they are measured against.
        keep_going: a failure concerns its artifact only; else the first one ends all.

    Raises:
        EdgecError: an artifact cannot be made, and `keep_going` is false.
    """
    maker = _Maker(job, judged)
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
            maker.stop()
            raise
    return tuple(maker.timed(item) if isinstance(item, BuiltArtifact) else item for item in made)


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

    def __init__(self, job: Job, judged: Judged) -> None:
        self._job, self._judged = job, judged
        self._trials: list[Trial] = []
        self._stopped = False
        self._running: set[Worker] = set()
        self._running_lock = threading.Lock()
        self._measuring = threading.Lock()
        """The user's metric is one at a time: its module and its random numbers are those of the process."""
        self._training = threading.Lock()
        self._trainings: dict[WeightGrid, dict[str, Any]] = {}
        self._failed_trainings: dict[WeightGrid, EdgecError] = {}
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

    def stop(self) -> None:
        """End all processes, and what the threads do with them."""
        with self._running_lock:
            self._stopped = True
            for worker in self._running:
                worker.kill()
        for trial in self._trials:
            trial.stop()

    def _call(
        self, task: str, payload: dict[str, Any], *, what: str, threads: int, on_progress: Progress
    ) -> WorkerResult:
        """`edgec.worker.call`, which `stop` can end."""
        with Worker(log=self._job.log, what=what, threads=threads, on_progress=on_progress) as worker:
            with self._running_lock:
                if self._stopped:
                    raise TrialStoppedError
                self._running.add(worker)
            try:
                return worker.call(task, payload)
            except WorkerError:
                if self._stopped:
                    raise TrialStoppedError from None
                raise
            finally:
                with self._running_lock:
                    self._running.discard(worker)

    def make(self, item: PlannedEmit) -> BuiltArtifact:
        """Climb the ladder for one artifact."""
        require_packages(item.backend)
        job, plan = self._job, self._job.plan
        # times are taken at the end, when nothing else runs: no rung can be judged by them
        budget = plan.target.budget.model_copy(update={"latency_ms": None, "min_speedup": None})
        untimed = plan.target.model_copy(update={"budget": budget})
        with Trial(
            target=plan.target,
            item=item,
            model=job.scratch / "model",
            trained=self._trained,
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
            self._trials.append(trial)
            if self._stopped:
                raise TrialStoppedError
            locked = job.locked(self._judged.data, item)
            climbed = Climb(trial, self._deadline).run(item.ladder, pinned(trial, first_recipe(plan.target)), locked)
            return self._built(trial, climbed)

    def _built(self, trial: Trial, climbed: Climbed) -> BuiltArtifact:
        attempt, file = climbed.attempt, climbed.attempt.artifact.file
        coverage: tuple[Coverage, ...] = ()
        layers: tuple[LayerFidelity, ...] = ()
        twin: tuple[Artifact, Path] | None = None
        if attempt.precision != trial.target.precision:
            reason = climbed.rungs[-1].reason
            coverage += (Coverage(subject=file, state=f"{FELL_BACK}{attempt.precision}", reason=reason),)
        elif attempt.precision == "int8" and not attempt.missed:
            try:
                layers = trial.compare_layers(attempt.recipe)
            except EdgecError as error:
                coverage += (Coverage(subject=file, state="layers not compared", reason=error.what),)
        if attempt.precision != "fp32" and not attempt.missed:
            try:
                twin = trial.twin()
            except EdgecError as error:
                coverage += (Coverage(subject=file, state="speed-up not measured", reason=error.what),)
        if attempt.recipe.train:
            coverage += self._training_coverage(trial)
        passes = (*self._judged.portable, *attempt.passes)
        return BuiltArtifact(attempt, passes, climbed.rungs, layers, coverage, climbed.hurried, twin)

    def _trained(self, grid: WeightGrid) -> Path:
        """Folder of the model after training for `grid`, which artifacts with the same grid share."""
        job, data, spec = self._job, self._judged.data, self._job.plan.project.train
        if spec is None or data.training is None:
            raise ProjectError("no training data is named", hint='[train] data = "training.npz", or --train DATA')
        folder = job.scratch / f"trained-{grid.digest()[:16]}"
        with self._training:
            if grid in self._failed_trainings:
                raise self._failed_trainings[grid]
            if grid not in self._trainings:
                try:
                    self._trainings[grid] = self._train(spec, data.training, grid, folder)
                except EdgecError as error:
                    self._failed_trainings[grid] = error  # each recipe would train anew
                    raise
        return folder

    def _train(self, spec: TrainSpec, training: Spool, grid: WeightGrid, folder: Path) -> dict[str, Any]:
        job, data = self._job, self._judged.data
        weight_only = job.plan.target.precision in WEIGHT_ONLY
        return self._call(
            "edgec.train.task:train_quantized",
            {
                "model": str(job.scratch / "model"),
                "grid": grid.model_dump_json(),
                "activations": "float" if weight_only else "int8",
                "spec": spec.model_dump_json(),
                "training": str(training.folder),
                "calibration": str(data.calibration.folder) if data.calibration else None,
                "out": str(folder),
                "checkpoints": str(job.checkpoints),
                "root": str(job.root),
                "seed": job.plan.project.build.seed,
                "threads": job.threads,
            },
            what="quantization-aware training",
            threads=job.threads,
            on_progress=lambda step: job.progress(f"train: {step}"),
        ).value

    def _training_coverage(self, trial: Trial) -> tuple[Coverage, ...]:
        told = self._trainings[trial.grid]
        found = tuple(Coverage.model_validate_json(json.dumps(item)) for item in told["coverage"])
        return (Coverage(subject=trial.item.file, state="trained", reason=told["summary"]), *found)

    def _verify(self, artifact: Artifact, folder: Path, runtime: RuntimeSpec) -> Measurement:
        job, judged = self._job, self._judged
        threads = job.plan.target.bench.threads

        def run() -> WorkerResult:
            return self._call(
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

    def timed(self, built: BuiltArtifact) -> BuiltArtifact:
        """The same with its times in each runtime that runs it."""
        if built.attempt.missed:
            return built
        measurements: list[Measurement] = []
        coverage: list[Coverage] = []
        for item in built.measurements:
            try:
                measurements.append(item if item.failure else self._timed(built, item))
            except EdgecError as error:
                measurements.append(item)
                subject = f"{item.artifact} in {item.runtime}"
                coverage.append(Coverage(subject=subject, state="not timed", reason=error.what))
        attempt = replace(built.attempt, measurements=tuple(measurements))
        return replace(built, attempt=attempt, coverage=(*built.coverage, *coverage))

    def _timed(self, built: BuiltArtifact, measured: Measurement) -> Measurement:
        job, bench = self._job, self._job.plan.target.bench
        pair = [(built.artifact, built.file)]
        if built.twin is not None:
            pair.append((built.twin[0], built.twin[1] / built.twin[0].file))
        result = self._call(
            "edgec.verify.speed:time_artifacts",
            {
                "artifacts": [{"artifact": one.model_dump_json(), "file": str(file)} for one, file in pair],
                "runtime": measured.runtime,
                "spool": str(self._judged.data.evaluation.folder),
                "threads": bench.threads,
                "warmup": bench.warmup,
                "runs": bench.runs,
            },
            what=f"{built.artifact.file} in {measured.runtime}",
            threads=bench.threads,
            on_progress=lambda step: job.progress(f"{built.artifact.file}: {step}"),
        ).value
        latency, speed = result["latency"], result["speed"]
        return measured.model_copy(
            update={
                "latency": Latency.model_validate_json(latency) if latency else None,
                "speed": Speed.model_validate_json(speed) if speed else None,
            }
        )


def outputs_folder(folder: Path, runtime: str) -> Path:
    """Where the outputs of an attempt in a runtime are, one ``<output>.npy`` each."""
    return folder / "outputs" / runtime
