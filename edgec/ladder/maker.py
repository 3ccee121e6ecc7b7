"""The process that makes one artifact by any recipe, as the ladder and `edgec analyze` use it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from edgec.backends.interface import Artifact, Layer, LayerFidelity
from edgec.dataset.spool import Spool
from edgec.errors import ProjectError, WorkerError
from edgec.ladder.requests import (
    CompileAnswer,
    CompileRequest,
    CompilerOptions,
    FidelityAnswer,
    LayersAnswer,
    RecipeRequest,
    SamplesAnswer,
    SamplesRequest,
)
from edgec.ladder.results import RecipeResults, identify
from edgec.passes.contract import PassRecord
from edgec.plan.context import BuildContext
from edgec.plan.plan import PlannedEmit
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.storage.files import empty_folder
from edgec.target.spec import Precision
from edgec.train.grid_models import GridModels
from edgec.verify.fidelity import compare_outputs
from edgec.verify.outputs import Outputs, open_outputs
from edgec.verify.records import CandidateScore
from edgec.verify.settle import sure_agreement
from edgec.workers.group import StoppedError
from edgec.workers.records import Done
from edgec.workers.worker import WITH_TORCH, Answer, Worker

COMPILER = "edgec.ladder.compiler:ArtifactCompiler"


@dataclass(frozen=True)
class ScoringSamples:
    """Samples that recipes are compared on, and the float model's outputs for them."""

    spool: Spool
    indices: Sequence[int]
    reference: Outputs


@dataclass(frozen=True)
class CompiledArtifact:
    """An artifact before it was run."""

    artifact: Artifact
    folder: Path
    passes: tuple[PassRecord, ...] = ()

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.folder / self.artifact.file


class _Common(TypedDict):
    """The fields of each request."""

    model: Path
    recipe: Recipe
    precision: Precision


class ArtifactMaker:
    """Makes one artifact by any number of recipes, in a process that a context of this ends.

    Args:
        context: of the build; the float model after the portable passes is in its ``model``.
        item: the artifact.
        portable: the portable passes.
        calibration: None for precisions that need none.
        training: models trained for a weight grid; None: recipes that train cannot be made.
        progress: receives the steps of the process.
    """

    def __init__(
        self,
        context: BuildContext,
        item: PlannedEmit,
        portable: Sequence[PassRecord],
        calibration: Spool | None,
        training: GridModels | None = None,
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.item = item
        self.target = context.plan.target
        identity = identify(context, item, portable, calibration)
        self.results = RecipeResults(context.cache, identity)
        self._steps = RecipeResults(context.steps, identity)
        self.scratch = context.scratch / f"emit-{item.index}"
        self.progress = progress
        self._context, self._calibration, self._training = context, calibration, training
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> ArtifactMaker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def stop(self) -> None:
        """End the process for good, from another thread: requests then raise `StoppedError`."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.kill()

    @property
    def grid(self) -> WeightGrid:
        """The grid that weights are rounded to."""
        return self.item.backend.weight_grid(self.target, self.item.emit)

    def reasons_against(self, recipe: Recipe) -> Sequence[str]:
        """Why the backend cannot follow `recipe`; empty: it can."""
        return self.item.backend.reasons_against_recipe(self.target, self.item.emit, recipe)

    def lower(self, recipe: Recipe) -> None:
        """Check that the backend takes the float model, before samples are run and ranges collected.

        Raises:
            EdgecError: it does not.
        """
        self._ask("lower", RecipeRequest(**self._common(recipe)), Done)

    def compile(self, recipe: Recipe, folder: Path, precision: Precision | None = None) -> CompiledArtifact:
        """Make the artifact.

        Args:
            recipe: how it is quantized.
            folder: where it is written; made anew.
            precision: None: the target's.

        Raises:
            EdgecError: it cannot be made.
        """

        def ask() -> CompileAnswer:
            return self._ask("compile", CompileRequest(**self._common(recipe, precision), out=folder), CompileAnswer)

        answer = self._steps.get("compile", recipe, CompileAnswer, ask, out=folder, precision=precision)
        return CompiledArtifact(answer.artifact, folder, answer.passes)

    def float_twin(self) -> CompiledArtifact:
        """The artifact in float32: what its speed-up is measured against."""
        return self.compile(Recipe(), self.scratch / "twin", "fp32")

    def layers(self, recipe: Recipe) -> tuple[Layer, ...]:
        """The layers that `recipe` could leave in float."""
        request = RecipeRequest(**self._common(recipe))
        return self.results.get(
            "layers", recipe, LayersAnswer, lambda: self._ask("layers", request, LayersAnswer)
        ).layers

    def compare_layers(self, recipe: Recipe) -> tuple[LayerFidelity, ...]:
        """SQNR of each layer's output against the float model's."""
        request = RecipeRequest(**self._common(recipe))
        return self._steps.get(
            "compare layers", recipe, FidelityAnswer, lambda: self._ask("compare_layers", request, FidelityAnswer)
        ).layers

    def score(self, recipe: Recipe, samples: ScoringSamples, runtime: str) -> CandidateScore:
        """How near the artifact of `recipe` is to the float model.

        Args:
            recipe: what to make.
            samples: what to run.
            runtime: name of the runtime to run it in.
        """
        if reasons := self.reasons_against(recipe):
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure="; ".join(reasons))
        key = (samples.spool.info.content_digest, samples.indices)

        def compute() -> CandidateScore:
            return self._score(recipe, samples, runtime)

        try:
            return self.results.get("score", recipe, CandidateScore, compute, samples=key, runtime=runtime)
        except WorkerError as error:
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure=error.what)

    def _score(self, recipe: Recipe, samples: ScoringSamples, runtime: str) -> CandidateScore:
        outputs, failure = self.run(recipe, samples, runtime)
        if failure:
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure=failure)
        return CandidateScore(
            recipe=recipe,
            sqnr_db=min(item.sqnr_db for item in compare_outputs(samples.reference, outputs)),
            agreement=sure_agreement(samples.reference, outputs, samples.spool.info.inputs),
        )

    def run(self, recipe: Recipe, samples: ScoringSamples, runtime: str) -> tuple[Outputs, str]:
        """Outputs of the artifact of `recipe`, or why there are none; valid until the next call.

        Args:
            recipe: what to make.
            samples: what to run.
            runtime: name of the runtime to run it in.

        Raises:
            WorkerError: the process crashed or was killed, which may not be the recipe's fault.
        """
        out = self.scratch / "scored"
        shutil.rmtree(out, ignore_errors=True)
        request = SamplesRequest(
            **self._common(recipe),
            spool=samples.spool.folder,
            indices=tuple(samples.indices),
            out=out,
            runtime=runtime,
        )
        answer = self._ask("run", request, SamplesAnswer)
        outputs = open_outputs(answer.outputs)
        ordered = {name: outputs[name] for name in samples.reference if name in outputs}
        if not answer.failure and (missing := set(samples.reference) - set(ordered)):
            return {}, f"it has no output {', '.join(sorted(missing))}"
        return ordered, answer.failure

    def _common(self, recipe: Recipe, precision: Precision | None = None) -> _Common:
        model = self._model_of(recipe)
        return {"model": model, "recipe": recipe, "precision": precision or self.target.precision}

    def _ask(self, method: str, request: RecipeRequest, kind: type[Answer]) -> Answer:
        answer = self._answer(method, request, kind)
        if isinstance(answer, WorkerError):
            # a process that was killed must not decide which recipe is chosen: a second one is asked
            answer = self._answer(method, request, kind)
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def _model_of(self, recipe: Recipe) -> Path:
        if not recipe.train:
            return self._context.model
        if self._training is None:
            raise ProjectError("this recipe needs training, which is not available here", where=self.item.file)
        return self._training.folder_of(self.grid)

    def _answer(self, method: str, request: RecipeRequest, kind: type[Answer]) -> Answer | WorkerError:
        """The answer, or why the process has ended."""
        worker: Worker | None = None
        try:
            worker = self._open()
            return worker.ask(method, request, kind).value
        except WorkerError as error:
            ended = worker is None or worker.ended
            self._close()  # the next request starts a new process
            if self._stopped:
                raise StoppedError from None
            if ended:
                return error
            raise

    def _open(self) -> Worker:
        context = self._context
        with self._lock:
            if self._stopped:
                raise StoppedError
            if self._worker is not None:
                return self._worker
            worker = self._worker = Worker(
                log=context.log,
                what=f"{self.item.file} ({self.item.backend.name})",
                threads=context.threads,
                on_progress=self.progress,
                imports=WITH_TORCH,
            )
        work = self.scratch / "work"
        empty_folder(work)
        worker.create(
            COMPILER,
            CompilerOptions(
                target=self.target,
                emit=self.item.index,
                calibration=self._calibration.folder if self._calibration else None,
                work=work,
                seed=context.plan.project.build.seed,
                threads=context.threads,
            ),
        )
        return worker

    def _close(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.__exit__(None, None, None)
