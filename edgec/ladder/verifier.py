"""Runs artifacts of a build in their runtimes on the evaluation samples, and judges them by the project's gates."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgec.backends.interface import Artifact, OpDifference, RuntimeSpec
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, UnsupportedError, WorkerError
from edgec.frozen import Frozen
from edgec.ladder.maker import CompiledArtifact
from edgec.machine import host_machine
from edgec.plan.context import BuildContext
from edgec.plan.identity import environment
from edgec.storage.files import sha256_of
from edgec.verify.gates import judge
from edgec.verify.measure import measure
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.verify.records import GateResult, Measurement
from edgec.verify.requests import ArtifactFile, DifferenceAnswer, DifferenceRequest, RunAnswer, RunRequest
from edgec.verify.run import imports_of
from edgec.workers.group import WorkerGroup
from edgec.workers.worker import Answer, WorkerResult


class _Ran(Frozen):
    """A run of an artifact, as it is kept: its outputs are names in the folder."""

    answer: RunAnswer
    seconds: float
    peak_rss_mb: float


class Verifier:
    """Verifies artifacts of one build; used from several threads.

    Args:
        context: of the build.
        evaluation: samples to run.
        reference: the float model's outputs for them.
        metric: the project's.
        workers: runs the artifacts.
    """

    def __init__(
        self, context: BuildContext, evaluation: Spool, reference: Outputs, metric: Metric, workers: WorkerGroup
    ) -> None:
        self._context, self._workers = context, workers
        self._evaluation, self._reference, self._metric = evaluation, reference, metric
        self._metric_lock = threading.Lock()
        """The user's metric runs in this process: its module and random numbers are not for several threads."""

    def verify(self, made: CompiledArtifact, runtime: RuntimeSpec) -> Measurement:
        """Run an artifact and measure its outputs; a crash of the runtime is recorded as the artifact's failure."""
        result: WorkerResult[RunAnswer] | EdgecError
        try:
            result = UnsupportedError(runtime.missing) if runtime.missing else self._run(made, runtime)
        except WorkerError:
            try:
                result = self._run(made, runtime)  # it may have been killed for want of memory
            except WorkerError as error:
                result = error
        with self._metric_lock:
            return measure(
                made.artifact, made.file, runtime, result, self._reference, self._metric, host_machine()
            )  # fmt: skip

    def _run(self, made: CompiledArtifact, runtime: RuntimeSpec) -> WorkerResult[RunAnswer]:
        threads, folder = self._context.plan.target.bench.threads, outputs_folder(made.folder, runtime.name)
        request = RunRequest(
            artifact=made.artifact,
            file=made.file,
            runtime=runtime.name,
            spool=self._evaluation.folder,
            out=folder,
            threads=threads,
        )

        def run() -> _Ran:
            result = self._call("edgec.verify.run:run_artifact", request, RunAnswer, runtime.name)
            names = {output: Path(file).name for output, file in result.value.outputs.items()}
            answer = result.value.model_copy(update={"outputs": names})
            return _Ran(answer=answer, seconds=result.seconds, peak_rss_mb=result.peak_rss_mb)

        inputs = run_inputs(made.artifact, made.file, runtime.name, self._evaluation, threads)
        ran = self._context.steps.step("run", inputs, _Ran, run, folder, keep=lambda one: not one.answer.failure)
        files = {output: str(folder / name) for output, name in ran.answer.outputs.items()}
        return WorkerResult(ran.answer.model_copy(update={"outputs": files}), ran.seconds, ran.peak_rss_mb)

    def first_difference(self, made: CompiledArtifact, right: str, wrong: str) -> OpDifference | None:
        """The op at which two runtimes of an artifact begin to differ; None when that is not known.

        Args:
            made: the artifact.
            right: name of the runtime that is near the float model.
            wrong: name of the one that is not.
        """
        request = DifferenceRequest(
            artifact=made.artifact,
            file=made.file,
            right=right,
            wrong=wrong,
            spool=self._evaluation.folder,
            threads=self._context.plan.target.bench.threads,
        )
        try:
            return self._call("edgec.verify.run:first_difference", request, DifferenceAnswer, wrong).value.op
        except EdgecError:
            return None  # that it is wrong is known without it

    def judge(self, measurements: Sequence[Measurement]) -> tuple[GateResult, ...]:
        """The gates of an artifact, but for those of times, which are taken at the end, when nothing else runs."""
        target = self._context.plan.target
        budget = target.budget.model_copy(update={"latency_ms": None, "min_speedup": None})
        return judge(self._context.plan.project.gates, target.model_copy(update={"budget": budget}), measurements)

    def _call(self, task: str, request: ArtifactFile, answer: type[Answer], runtime: str) -> WorkerResult[Answer]:
        threads, file = self._context.plan.target.bench.threads, request.artifact.file
        return self._workers.call(
            task,
            request,
            answer,
            what=f"{file} in {runtime}",
            threads=threads,
            imports=imports_of(request.artifact),
            on_progress=lambda step: self._context.progress(f"{file}: {step}"),
        )


def run_inputs(artifact: Artifact, file: Path, runtime: str, samples: Spool, threads: int) -> dict[str, Any]:
    """Everything that a run of an artifact depends on, as `edgec.storage.cache.Cache.step` takes it.

    Args:
        artifact: what is run.
        file: its file.
        runtime: name of where it is run.
        samples: what it is run on.
        threads: of the runtime.
    """
    return {
        "artifact": artifact.plain(),
        "file": sha256_of(file),
        "runtime": runtime,
        "samples": samples.info.content_digest,
        "threads": threads,
        "environment": environment([get_backend(artifact.backend)]).plain(),
    }


def outputs_folder(folder: Path, runtime: str) -> Path:
    """Where the outputs of an artifact in a runtime are, one ``<output>.npy`` each."""
    return folder / "outputs" / runtime
