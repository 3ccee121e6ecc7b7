"""The process that makes one artifact by any number of recipes; what recipes have in common is done once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, StorageError
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
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext, PassRecord
from edgec.passes.float_corrections import float_corrections
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.storage.temporary import private_folder
from edgec.target.spec import Target
from edgec.verify.run import run_samples
from edgec.workers.records import Done
from edgec.workers.worker import Progress

KEPT_RESULTS = 12
"""Results of passes that are kept for recipes to come; the oldest go first. Of quantized models one is kept."""

Made = tuple[Any, tuple[PassRecord, ...]]
"""A model between two passes, and the records of the passes that led to it."""


@dataclass(frozen=True)
class _Lowered:
    made: Made
    key: tuple[Any, ...]
    """What it was made from."""
    context: PassContext


class ArtifactCompiler:
    """Lowers, quantizes, emits and runs one artifact of a target. Lives in a worker (`Worker.create`).

    Args:
        options: what its requests share.
        progress: receives the name of each step.
    """

    def __init__(self, options: CompilerOptions, progress: Progress) -> None:
        self._target = options.target
        self._emit = self._target.emit[options.emit]
        self._backend = get_backend(self._emit.backend)
        self._calibration = Spool(options.calibration) if options.calibration else None
        self._work = options.work
        self._seed, self._threads = options.seed, options.threads
        self._made: dict[Hashable, Made] = {}
        self._last: tuple[Hashable, Made] | None = None
        """The last quantized model, with what it was made from."""
        self._contexts: dict[Hashable, PassContext] = {}

    def compile(self, request: CompileRequest, progress: Progress) -> CompileAnswer:
        """Write the artifact."""
        (model, records), context = self._quantized(request, progress)
        progress("emit")
        return CompileAnswer(artifact=self._backend.emit(model, context, request.out), passes=records)

    def run(self, request: SamplesRequest, progress: Progress) -> SamplesAnswer:
        """Run the artifact on samples."""
        try:
            (model, _), context = self._quantized(request, progress)
            with private_folder(self._work, "candidate-") as folder:
                progress("emit")
                artifact = self._backend.emit(model, context, Path(folder))
                progress(f"run in {request.runtime}")
                runner = self._backend.runner(artifact, Path(folder, artifact.file), request.runtime, self._threads)
                spool = Spool(request.spool)
                samples = [spool[index] for index in request.indices]
                return SamplesAnswer(outputs=run_samples(runner, samples, artifact, request.out), failure="")
        except StorageError:  # not the recipe's fault
            raise
        except EdgecError as error:
            return SamplesAnswer(outputs={}, failure=error.what)

    def lower(self, request: RecipeRequest, progress: Progress) -> Done:
        """Make the backend's float model, which later requests use."""
        self._lowered(request, progress)
        return Done()

    def layers(self, request: RecipeRequest, progress: Progress) -> LayersAnswer:
        """`Backend.layers` of the float model after the recipe's corrections."""
        return LayersAnswer(layers=tuple(self._backend.layers(self._lowered(request, progress).made[0])))

    def compare_layers(self, request: RecipeRequest, progress: Progress) -> FidelityAnswer:
        """`Backend.compare_layers`."""
        lowered = self._lowered(request, progress)
        (model, _), context = self._quantized(request, progress)
        progress("compare layers")
        return FidelityAnswer(layers=tuple(self._backend.compare_layers(lowered.made[0], model, context)))

    def _lowered(self, request: RecipeRequest, progress: Progress) -> _Lowered:
        """The backend's float model, after the float-side corrections of the recipe."""
        folder, target = str(request.model), self._target.model_copy(update={"precision": request.precision})
        loaded = self._kept((folder,), lambda: _load(request.model, progress))
        grid = self._backend.weight_grid(target, self._emit)
        steps = float_corrections(_of_modules(request.recipe, loaded[0]), grid)
        key = (folder, request.precision, *steps)
        context = self._context(key, target)
        corrected = self._run_passes((folder,), loaded, steps, context, store.fingerprint, progress)

        def lower() -> Made:
            progress("lower")
            return self._backend.lower(corrected[0], context), corrected[1]

        return _Lowered(self._kept((*key, "lower"), lower), key, context)

    def _quantized(self, request: RecipeRequest, progress: Progress) -> tuple[Made, PassContext]:
        lowered = self._lowered(request, progress)
        steps = self._backend.passes(lowered.context.target, self._emit, request.recipe)
        key, fingerprint = (*lowered.key, "lower"), self._backend.fingerprint
        before = self._run_passes(key, lowered.made, steps[:-1], lowered.context, fingerprint, progress)
        whole = (*key, *steps)
        if self._last is None or self._last[0] != whole:
            self._last = None  # before the next one is made: quantized models of some toolchains are large,
            gc.collect()  # and refer to themselves
            model, records = run_passes(steps[-1:], before[0], lowered.context, fingerprint, on_progress=progress)
            self._last = whole, (model, (*before[1], *records))
        return self._last[1], lowered.context

    def _run_passes(
        self,
        key: tuple[Any, ...],
        begin: Made,
        steps: Sequence[Pass[Any]],
        context: PassContext,
        fingerprint: Callable[[Any], str],
        progress: Progress,
    ) -> Made:
        """Run passes one by one, each only where no recipe before has come the same way."""
        made = begin
        for step in steps:
            key = (*key, step)

            def run(before: Made = made, step: Pass[Any] = step) -> Made:
                model, records = run_passes((step,), before[0], context, fingerprint, on_progress=progress)
                return model, (*before[1], *records)

            made = self._kept(key, run)
        return made

    def _kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        if key in self._made:
            self._made[key] = self._made.pop(key)  # the last one used goes last
            return self._made[key]
        made = make()
        self._made[key] = made
        while len(self._made) > KEPT_RESULTS:
            del self._made[next(iter(self._made))]
        return made

    def _context(self, key: Hashable, target: Target) -> PassContext:
        """One work folder for each lowered model: backends leave files in it that later passes read."""
        if key not in self._contexts:
            work = self._work / str(len(self._contexts))
            work.mkdir(parents=True)
            self._contexts[key] = PassContext(target, work, self._calibration, self._seed, self._threads, self._emit)
        return self._contexts[key]


def _of_modules(recipe: Recipe, model: FloatModel) -> Recipe:
    """`recipe` with those of its float layers that are modules; corrections of the float model know no others."""
    if model.graph is None:
        return recipe
    modules = {name for name, _ in model.graph.named_modules()}
    return recipe.model_copy(update={"float_layers": tuple(name for name in recipe.float_layers if name in modules)})


def _load(folder: Path, progress: Progress) -> Made:
    progress("load model")
    model: FloatModel = store.load(folder)
    return model, ()
