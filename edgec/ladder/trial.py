"""One artifact under trial: recipes are scored on calibration samples, and attempts made, verified and judged."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgec.backends.interface import Artifact, Layer, LayerFidelity, OpDifference, RuntimeSpec
from edgec.dataset.spool import Spool
from edgec.errors import WorkerError
from edgec.ladder.cells import Cells
from edgec.ladder.runtimes import AllowedRuntimes, left_out
from edgec.passes.contract import PassRecord
from edgec.passes.coverage import Coverage
from edgec.plan.plan import PlannedEmit
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import Precision, Target
from edgec.verify.fidelity import compare_outputs
from edgec.verify.outputs import Outputs, open_outputs
from edgec.verify.records import CandidateScore, GateResult, Measurement
from edgec.verify.settle import sure_agreement
from edgec.workers.worker import WITH_TORCH, Worker

COMPILER = "edgec.ladder.compiler:ArtifactCompiler"


class TrialStoppedError(Exception):
    """The build ends, and with it everything its threads still do; no error of the tree, which would be recorded."""


@dataclass(frozen=True)
class Attempt:
    """One artifact as it went before its gates."""

    recipe: Recipe
    precision: Precision
    folder: Path
    """Holds the artifact's file, and ``outputs/<runtime>``."""
    artifact: Artifact
    passes: tuple[PassRecord, ...]
    measurements: tuple[Measurement, ...] = ()
    gates: tuple[GateResult, ...] = ()
    left_out: tuple[Coverage, ...] = ()
    """Runtimes that are wrong where another is right, and so are not judged."""

    @property
    def missed(self) -> tuple[GateResult, ...]:
        """Gates that are not met: what the ladder is climbed for."""
        return tuple(gate for gate in self.gates if gate.state in ("failed", "short"))

    @property
    def refused(self) -> bool:
        """Whether it is no artifact to keep; else the gates that it missed are told only."""
        return any(gate.state == "failed" for gate in self.gates)

    @property
    def worst_sqnr(self) -> float:
        """Of all judged runtimes, in dB; -inf when one of them failed."""
        values = [item.sqnr_db() for item in self.measurements if item.judged]
        return min((-math.inf if value is None else value for value in values), default=-math.inf)


@dataclass(frozen=True)
class Scoring:
    """The calibration samples that candidates are compared on, and what the float model makes of them."""

    spool: Spool
    indices: Sequence[int]
    reference: Outputs


@dataclass
class Trial:
    """What a climb asks of an artifact. It is used as a context: its process ends with it.

    Args:
        target: what is built.
        item: the artifact to make.
        model: folder of the float model after the portable passes (`edgec.model.store`).
        trained: the same, after quantization-aware training for a grid; may take long, and may be called often.
        scoring: None for precisions that have no candidates to compare.
        scratch: private folder of this artifact.
        calibration: None for precisions that need none.
        verify: runs an artifact in a runtime; its arguments are the artifact, its folder, and the runtime.
        differ: where two runtimes of an artifact part; its arguments are the artifact, its folder, the name of the
            runtime that is right, and that of the one that is not.
        judge: the gates of an artifact's measurements.
        cells: scores of earlier runs; None: every score is computed.
    """

    target: Target
    item: PlannedEmit
    model: Path
    trained: Callable[[WeightGrid], Path]
    scoring: Scoring | None
    scratch: Path
    calibration: Spool | None
    seed: int
    threads: int
    log: Path
    progress: Callable[[str], None]
    verify: Callable[[Artifact, Path, RuntimeSpec], Measurement]
    differ: Callable[[Artifact, Path, str, str], OpDifference | None]
    judge: Callable[[Sequence[Measurement]], tuple[GateResult, ...]]
    cells: Cells | None = None
    _worker: Worker | None = None
    _attempts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self._runtimes = AllowedRuntimes(self.item.runtimes, insisted=self.item.emit.runtimes is not None)

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a later request starts another."""
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.__exit__(None, None, None)

    def stop(self) -> None:
        """End the process for good, from another thread: what asks it anything then raises `TrialStoppedError`."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.kill()

    @property
    def grid(self) -> WeightGrid:
        """What weights are rounded to."""
        return self.item.backend.weight_grid(self.target, self.item.emit)

    def reasons_against(self, recipe: Recipe) -> Sequence[str]:
        """Why the backend cannot follow `recipe`; empty: it can."""
        return self.item.backend.reasons_against_recipe(self.target, self.item.emit, recipe)

    def score(self, recipe: Recipe, scoring: Scoring | None = None) -> CandidateScore:
        """How near the artifact of `recipe` is to the float model on calibration samples, in its first right runtime.

        Args:
            recipe: what to make.
            scoring: other samples than the trial's own.
        """
        scoring = scoring or self.scoring
        if reasons := self.reasons_against(recipe):
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure="; ".join(reasons))
        if scoring is None:
            raise ValueError("no samples to score candidates on")
        samples = (scoring.spool.info.content_digest, scoring.indices)
        runtime = self._runtimes.in_order[0].name

        def compute() -> dict[str, Any]:
            return self._score(recipe, scoring).model_dump(mode="json")

        try:
            value = (
                self.cells.kept("score", recipe, compute, samples=samples, runtime=runtime) if self.cells else compute()
            )
        except WorkerError as error:
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure=error.what)
        return CandidateScore.model_validate_json(json.dumps(value))

    def _score(self, recipe: Recipe, scoring: Scoring) -> CandidateScore:
        outputs, failure = self.outputs(recipe, scoring)
        if failure:
            return CandidateScore(recipe=recipe, sqnr_db=None, agreement=None, failure=failure)
        reference = scoring.reference
        return CandidateScore(
            recipe=recipe,
            sqnr_db=min(item.sqnr_db for item in compare_outputs(reference, outputs)),
            agreement=sure_agreement(reference, outputs, scoring.spool.info.inputs),
        )

    def outputs(self, recipe: Recipe, scoring: Scoring) -> tuple[Outputs, str]:
        """Outputs of the artifact of `recipe` on samples, or why there are none; valid until the next call.

        Raises:
            WorkerError: the process crashed or was killed, which says nothing certain about the recipe.
        """
        out = self.scratch / "scored"
        shutil.rmtree(out, ignore_errors=True)
        asked = {
            "spool": str(scoring.spool.folder),
            "indices": list(scoring.indices),
            "out": str(out),
            "runtime": self._runtimes.in_order[0].name,
        }
        answer = self._ask("run", recipe, asked)
        found = open_outputs(answer["outputs"])
        ordered = {name: found[name] for name in scoring.reference if name in found}
        if not answer["failure"] and set(ordered) != set(scoring.reference):
            return {}, f"gives no output {', '.join(sorted(set(scoring.reference) - set(ordered)))}"
        return ordered, str(answer["failure"])

    def attempt(self, recipe: Recipe, precision: Precision | None = None) -> Attempt:
        """Make the artifact, and verify it in its runtimes up to the first that misses a gate (see `complete`).

        Raises:
            EdgecError: it cannot be made.
        """
        self._attempts += 1
        folder = self.scratch / f"attempt-{self._attempts}"
        folder.mkdir(parents=True)
        precision = precision or self.target.precision
        answer = self._ask("compile", recipe, {"out": str(folder)}, precision)
        made = Attempt(
            recipe=recipe,
            precision=precision,
            folder=folder,
            artifact=Artifact.model_validate_json(json.dumps(answer["artifact"])),
            passes=tuple(PassRecord.model_validate_json(json.dumps(one)) for one in answer["passes"]),
        )
        return self._verified(made, all_runtimes=False)

    def complete(self, attempt: Attempt) -> Attempt:
        """`attempt`, verified in the runtimes that were left out after one missed a gate."""
        return self._verified(attempt, all_runtimes=True)

    def lower(self, recipe: Recipe) -> None:
        """Find out whether the backend takes the float model at all, before samples are run and ranges collected.

        Raises:
            EdgecError: it does not.
        """
        self._ask("lower", recipe, {})

    def twin(self) -> tuple[Artifact, Path]:
        """The artifact in float32, and its folder: what the speed-up is measured against."""
        folder = self.scratch / "twin"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        answer = self._ask("compile", Recipe(), {"out": str(folder)}, "fp32")
        return Artifact.model_validate_json(json.dumps(answer["artifact"])), folder

    def layers(self, recipe: Recipe) -> tuple[Layer, ...]:
        """What the recipe could leave in float."""

        def compute() -> Any:
            return self._ask("layers", recipe, {})["layers"]

        found = self.cells.kept("layers", recipe, compute) if self.cells else compute()
        return tuple(Layer.model_validate_json(json.dumps(one)) for one in found)

    def compare_layers(self, recipe: Recipe) -> tuple[LayerFidelity, ...]:
        """Where the error of an artifact enters."""
        answer = self._ask("compare_layers", recipe, {})
        return tuple(LayerFidelity.model_validate_json(json.dumps(one)) for one in answer["layers"])

    def _verified(self, attempt: Attempt, *, all_runtimes: bool) -> Attempt:
        done = {item.runtime for item in attempt.measurements}
        for runtime in self._runtimes.in_order:
            if runtime.name in done:
                continue
            if attempt.missed and not all_runtimes and not self._runtimes.unknown:
                break
            measured = (*attempt.measurements, self.verify(attempt.artifact, attempt.folder, runtime))
            attempt = replace(attempt, measurements=measured, gates=self.judge(measured))

        def find(right: str, wrong: str) -> OpDifference | None:
            return self.differ(attempt.artifact, attempt.folder, right, wrong)

        if attempt.missed:
            measured = self._runtimes.leave_out_wrong(attempt.measurements, attempt.missed, find)
            attempt = replace(attempt, measurements=measured, gates=self.judge(measured))
        order = [item.name for item in self.item.runtimes]
        return replace(
            attempt,
            measurements=tuple(sorted(attempt.measurements, key=lambda item: order.index(item.runtime))),
            left_out=left_out(attempt.artifact.file, self._runtimes),
        )

    def _ask(
        self, method: str, recipe: Recipe, payload: dict[str, Any], precision: Precision | None = None
    ) -> dict[str, Any]:
        model = self.model
        if recipe.train:
            model = self.trained(self.grid)
        request = {
            "model": str(model),
            "recipe": recipe.model_dump_json(),
            "precision": precision or self.target.precision,
            **payload,
        }
        answer = self._answer(method, request)
        if isinstance(answer, WorkerError):
            # one that was killed must not decide which recipe is chosen, and locked: a second is asked
            answer = self._answer(method, request)
        if isinstance(answer, WorkerError):
            raise answer
        return answer

    def _answer(self, method: str, request: dict[str, Any]) -> dict[str, Any] | WorkerError:
        """The answer, or why the process that was asked has ended."""
        worker: Worker | None = None
        try:
            worker = self._opened()
            return worker.ask(method, request).value
        except WorkerError as error:
            ended = worker is None or worker.ended
            self.close()  # the next request gets a new process
            if self._stopped:
                raise TrialStoppedError from None
            if ended:
                return error
            raise

    def _opened(self) -> Worker:
        with self._lock:
            if self._stopped:
                raise TrialStoppedError
            if self._worker is not None:
                return self._worker
            self._worker = Worker(
                log=self.log,
                what=f"{self.item.file} ({self.item.backend.name})",
                threads=self.threads,
                on_progress=self.progress,
                imports=WITH_TORCH,
            )
            worker = self._worker
        work = self.scratch / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        worker.create(
            COMPILER,
            {
                "target": self.target.model_dump_json(),
                "emit": self.item.index,
                "calibration": str(self.calibration.folder) if self.calibration else None,
                "work": str(work),
                "seed": self.seed,
                "threads": self.threads,
            },
        )
        return worker
