"""The process that makes one artifact by any number of recipes; what recipes have in common is done once."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, StorageError
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext, PassRecord
from edgec.passes.float_corrections import float_corrections
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.spec import Target
from edgec.verify.run import run_samples
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
        payload: ``target`` (record), ``emit`` (index), ``calibration`` (spool folder or None), ``work`` (private
            folder), ``seed``, ``threads``. Each request has ``model`` (folder of `edgec.model.store`), ``recipe``
            (record) and ``precision``.
        progress: receives the name of each step.
    """

    def __init__(self, payload: dict[str, Any], progress: Progress) -> None:
        self._target = Target.model_validate_json(payload["target"])
        self._emit = self._target.emit[payload["emit"]]
        self._backend = get_backend(self._emit.backend)
        self._calibration = Spool(Path(payload["calibration"])) if payload["calibration"] else None
        self._work = Path(payload["work"])
        self._seed, self._threads = payload["seed"], payload["threads"]
        self._made: dict[Hashable, Made] = {}
        self._last: tuple[Hashable, Made] | None = None
        """The last quantized model, with what it was made from."""
        self._contexts: dict[Hashable, PassContext] = {}

    def compile(self, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Write the artifact into folder ``out``; returns ``artifact`` and ``passes`` (records)."""
        (model, records), context = self._quantized(payload, progress)
        progress("emit")
        artifact = self._backend.emit(model, context, Path(payload["out"]))
        return {
            "artifact": artifact.model_dump(mode="json"),
            "passes": [item.model_dump(mode="json") for item in records],
        }

    def run(self, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Run the artifact on samples ``indices`` of spool ``spool`` in ``runtime``.

        Returns:
            ``outputs`` (output name -> .npy in folder ``out``), or ``failure``: why there is no such artifact.
        """
        try:
            (model, _), context = self._quantized(payload, progress)
            with tempfile.TemporaryDirectory(dir=self._work, prefix="candidate-") as folder:
                progress("emit")
                artifact = self._backend.emit(model, context, Path(folder))
                runtime = payload["runtime"]
                progress(f"run in {runtime}")
                runner = self._backend.runner(artifact, Path(folder, artifact.file), runtime, self._threads)
                spool = Spool(Path(payload["spool"]))
                samples = [spool[index] for index in payload["indices"]]
                return {"outputs": run_samples(runner, samples, artifact, Path(payload["out"])), "failure": ""}
        except StorageError:  # no fault of the recipe
            raise
        except EdgecError as error:
            return {"outputs": {}, "failure": error.what}

    def lower(self, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """Make the backend's float model, which later requests use; returns nothing."""
        self._lowered(payload, progress)
        return {}

    def layers(self, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """``layers``: the records of `Backend.layers`, of the float model after the recipe's corrections."""
        lowered = self._lowered(payload, progress)
        model = lowered.made[0]
        return {"layers": [item.model_dump(mode="json") for item in self._backend.layers(model)]}

    def compare_layers(self, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
        """``layers``: the records of `Backend.compare_layers`."""
        lowered = self._lowered(payload, progress)
        (model, _), context = self._quantized(payload, progress)
        progress("compare layers")
        layers = self._backend.compare_layers(lowered.made[0], model, context)
        return {"layers": [item.model_dump(mode="json") for item in layers]}

    def _lowered(self, payload: dict[str, Any], progress: Progress) -> _Lowered:
        """The backend's float model, after the float-side corrections of the recipe."""
        recipe = Recipe.model_validate_json(payload["recipe"])
        folder, precision = str(payload["model"]), payload["precision"]
        target = self._target.model_copy(update={"precision": precision})
        loaded = self._kept((folder,), lambda: _load(Path(folder), progress))
        steps = float_corrections(_of_modules(recipe, loaded[0]), self._backend.weight_grid(target, self._emit))
        key = (folder, precision, *steps)
        context = self._context(key, target)
        corrected = self._run_passes((folder,), loaded, steps, context, store.fingerprint, progress)

        def lower() -> Made:
            progress("lower")
            return self._backend.lower(corrected[0], context), corrected[1]

        return _Lowered(self._kept((*key, "lower"), lower), key, context)

    def _quantized(self, payload: dict[str, Any], progress: Progress) -> tuple[Made, PassContext]:
        recipe = Recipe.model_validate_json(payload["recipe"])
        lowered = self._lowered(payload, progress)
        steps = self._backend.passes(lowered.context.target, self._emit, recipe)
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
