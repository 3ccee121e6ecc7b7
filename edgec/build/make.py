"""Making the artifacts of one build: each climbs the accuracy ladder in a thread and a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from edgec.backends.interface import LayerFidelity
from edgec.build.artifact import BuiltArtifact, FailedArtifact, below_goal
from edgec.build.inputs import kept_float_outputs
from edgec.build.prepare import Prepared
from edgec.errors import CONCERNS_ALL, EdgecError
from edgec.ladder.climb import Climb, Climbed
from edgec.ladder.maker import ArtifactMaker, CompiledArtifact, ScoringSamples
from edgec.ladder.pinned_layers import with_pinned_layers
from edgec.ladder.trial import Trial
from edgec.ladder.verifier import Verifier
from edgec.lock.file import LockedArtifact
from edgec.passes.arithmetic import arithmetic_of
from edgec.passes.coverage import Coverage, CoverageState
from edgec.plan.context import BuildContext
from edgec.plan.plan import PlannedEmit, require_toolchain
from edgec.plan.rungs import first_recipe, place_dynamic_linear
from edgec.train.grid_models import GridModels
from edgec.workers.group import WorkerGroup

SCORED_SAMPLES, LEAST_SCORED = 64, 8
"""Calibration samples that candidates of a rung are compared on: as many, of large models fewer."""
SCORED_MULTIPLICATIONS = 12_000_000_000
"""By weights, in all samples that one candidate is run on: some seconds. A count, as times differ from run to run."""


def make_artifacts(
    context: BuildContext,
    prepared: Prepared,
    locked: Mapping[str, LockedArtifact],
    workers: WorkerGroup,
    *,
    bound: bool,
    all_or_nothing: bool,
    in_full: bool,
) -> tuple[BuiltArtifact | FailedArtifact, ...]:
    """Make all artifacts of a plan, up to ``context.jobs`` at the same time.

    Args:
        context: of the build.
        prepared: the model after the portable passes, and what artifacts are measured against.
        locked: recipes of an earlier build, by file.
        workers: runs artifacts, and is stopped by an error that ends the build.
        bound: whether no other recipes than the locked ones are allowed.
        all_or_nothing: the first artifact that cannot be made ends the build; else only that artifact fails.
        in_full: whether layers are compared with the float model's, and a float32 twin is made to time against.

    Raises:
        EdgecError: the error concerns all artifacts (`edgec.errors.CONCERNS_ALL`), or, with `all_or_nothing`, one.
    """
    inputs = prepared.inputs
    deadline = time.monotonic() + context.plan.project.build.time_budget
    arithmetic = arithmetic_of(inputs.model)
    samples = _scoring_samples(context, prepared, arithmetic.multiplications)
    verifier = Verifier(context, inputs.evaluation, prepared.reference, prepared.metric, workers)
    training = GridModels(context, inputs.training, inputs.calibration, workers)

    def make(item: PlannedEmit) -> BuiltArtifact | FailedArtifact:
        try:
            require_toolchain(context.plan, item)
            with ArtifactMaker(
                context, item, prepared.passes, inputs.calibration, training, _prefixed(context.progress, item.file)
            ) as maker:
                workers.add(maker)
                climb = Climb(Trial(maker, verifier, samples), deadline, bound=bound)
                first = with_pinned_layers(maker, first_recipe(context.plan.target))
                ladder = place_dynamic_linear(item.ladder, arithmetic.dynamic_linear)
                climbed = climb.run(ladder, first, locked.get(item.file))
                return _built(prepared, maker, climbed, training, in_full=in_full)
        except EdgecError as error:
            return _failed(context, item, error, all_or_nothing=all_or_nothing)

    with ThreadPoolExecutor(max_workers=min(context.jobs, len(context.plan.emits))) as pool:
        futures = [pool.submit(make, item) for item in context.plan.emits]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
            return tuple(future.result() for future in futures)
        except BaseException:
            for future in futures:
                future.cancel()
            workers.stop()
            raise


def _scoring_samples(context: BuildContext, prepared: Prepared, multiplications: int) -> ScoringSamples | None:
    calibration, model = prepared.inputs.calibration, prepared.inputs.model
    if calibration is None:
        return None
    count = len(calibration)
    affordable = SCORED_MULTIPLICATIONS // max(multiplications, 1)
    limit = min(count, SCORED_SAMPLES, max(affordable, LEAST_SCORED))
    indices = [index * count // limit for index in range(limit)]
    outputs = kept_float_outputs(context, model, calibration, indices, context.scratch / "scored")
    return ScoringSamples(calibration, indices, outputs)


def _prefixed(progress: Callable[[str], None], file: str) -> Callable[[str], None]:
    return lambda step: progress(f"{file}: {step}")


def _failed(context: BuildContext, item: PlannedEmit, error: EdgecError, *, all_or_nothing: bool) -> FailedArtifact:
    """The failure of one artifact, unless its error ends the build."""
    if isinstance(error, CONCERNS_ALL):
        raise error
    if not error.where.startswith(item.file):
        error.where = f"{item.file}: {error.where}" if error.where else item.file
    if all_or_nothing:
        raise error
    error.log = error.log or str(context.log)
    context.progress(f"{item.file}: cannot be made: {error.what}")
    return FailedArtifact(item.file, error)


def _built(
    prepared: Prepared, maker: ArtifactMaker, climbed: Climbed, training: GridModels, *, in_full: bool
) -> BuiltArtifact:
    attempt, file = climbed.attempt, climbed.attempt.artifact.file
    coverage = attempt.left_out + below_goal(attempt.gates)
    layers: tuple[LayerFidelity, ...] = ()
    twin: CompiledArtifact | None = None
    compared = in_full and not attempt.refused
    if attempt.precision != maker.target.precision:
        reason = climbed.rungs[-1].reason
        fallback: CoverageState = "fell back to fp16" if attempt.precision == "fp16" else "fell back to fp32"
        coverage += (Coverage(subject=file, state=fallback, reason=reason),)
    elif compared and attempt.precision == "int8":
        try:
            layers = maker.compare_layers(attempt.recipe)
        except EdgecError as error:
            coverage += (Coverage(subject=file, state="layers not compared", reason=error.what),)
    if compared and attempt.precision != "fp32":
        try:
            twin = maker.float_twin()
        except EdgecError as error:
            coverage += (Coverage(subject=file, state="speed-up not measured", reason=error.what),)
    if attempt.recipe.train:
        coverage += training.coverage(maker.grid, file)
    passes = (*prepared.passes, *attempt.passes)
    return BuiltArtifact(attempt, passes, climbed.rungs, layers, coverage, climbed.hurried, twin)
