"""Building one target: the straight line from a plan to a verified bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from edgec.build.api import Bundle
from edgec.build.artifact import BuiltArtifact, FailedArtifact
from edgec.build.depfile import dependencies_of
from edgec.build.events import ArtifactsMeasured, ArtifactUnavailable, InputsRead, ProblemFound
from edgec.build.inputs import Inputs, check_float, read_inputs, run_float
from edgec.build.make import make_artifacts
from edgec.build.metric import settle_metric
from edgec.build.options import BuildOptions
from edgec.build.prepare import Prepared, find_problems, transform
from edgec.build.ranges import with_ranges
from edgec.build.reproduce import check_reproducible
from edgec.build.result import BuildResult, ending, without_missed
from edgec.build.room import room_for
from edgec.build.timing import timed
from edgec.build.unchanged import remember
from edgec.build.write import write_bundle
from edgec.bundle.write import discard, publish_folder, refuse_foreign, refuse_within, source_date_epoch
from edgec.errors import ReproducibilityError
from edgec.events import Subscriber, ignore
from edgec.lock.file import LockedArtifact
from edgec.lock.follow import TargetLock
from edgec.plan.context import BuildContext, build_context
from edgec.plan.plan import Plan, require_any_toolchain, require_toolchain, without_toolchain
from edgec.storage.files import storage_errors
from edgec.storage.staging import destination_lock, flush, stage
from edgec.storage.stops import stops_held
from edgec.storage.workspace import explained
from edgec.train.training_data import used_training_samples
from edgec.verify.gates import judge
from edgec.workers.group import WorkerGroup
from edgec.workers.worker import import_ahead


def build_target(
    plan: Plan,
    root: Path,
    options: BuildOptions,
    subscriber: Subscriber = ignore,
    inputs: Inputs | None = None,
) -> Bundle:
    """Build the bundle of one target into ``<out>/<target>``, or leave none that looks finished.

    Artifacts that cannot be made or miss gates are among the failures of what is returned; its manifest says that they
    are missing.

    Args:
        plan: what to build.
        root: the project's folder, which paths are relative to.
        options: how.
        subscriber: receives the events of the build.
        inputs: model and samples, where `edgec.build.inputs.shared_inputs` has read them for several targets.

    Raises:
        EdgecError: no artifact is right, or the error concerns all. An older bundle is removed when gates were missed
            or the build is not reproducible.
    """
    source_date_epoch()  # raises now rather than after all the work
    began = time.time()
    name, out = plan.target.name, (root / plan.project.build.out).absolute()
    destination = out / name
    lock = TargetLock(plan, root, options.lock, options.threads)
    lock.check_plan()
    refuse_foreign(destination)
    refuse_within(out)
    threads, jobs = options.threads, options.jobs or room_for(options.threads)
    with (
        destination_lock(destination),
        build_context(
            plan, root, name, threads=threads, jobs=jobs, subscriber=subscriber, retime=options.retime
        ) as context,
        explained(context.log),
    ):
        result = compile_target(context, lock, inputs, all_or_nothing=options.all_or_nothing)
        subscriber(ArtifactsMeasured(plan, result, options.all_or_nothing))
        if error := ending(result, plan, all_or_nothing=options.all_or_nothing):
            if any(gate.state == "failed" for gate in result.gates):
                discard(destination)
            raise error
        kept = without_missed(result, plan)
        context.progress("write the bundle")
        with stage(out) as folder:
            manifest = write_bundle(context, kept, result.gates, folder)
            try:
                reproduced = check_reproducible(folder, context, options) if options.check_reproducible else None
            except ReproducibilityError:
                discard(destination)
                raise
            source, training = kept.prepared.inputs.model.source, kept.prepared.inputs.training
            used = used_training_samples(plan, training, kept.rungs)
            with storage_errors(folder):
                flush(folder)  # which may take long, so that what follows does not
            with stops_held():  # no bundle without its lock
                publish_folder(folder, destination)
                lock.renew(_locked(kept), source, used)
        if manifest.complete:
            remember(plan, root, options, began, source.imported, kept.prepared.read)
    needed = dependencies_of(plan, root, source.imported)
    return Bundle(destination, manifest, kept.measurements, kept.gates, kept.failures, needed, reproduced)


def compile_target(
    context: BuildContext,
    lock: TargetLock | None,
    inputs: Inputs | None,
    *,
    all_or_nothing: bool = False,
    in_full: bool = True,
) -> BuildResult:
    """Make, run and judge all artifacts of a plan, without writing a bundle.

    Args:
        context: what to build, and where.
        lock: recipes of an earlier build; None: none are followed.
        inputs: None: they are read now.
        all_or_nothing: the first artifact that cannot be made ends the build.
        in_full: whether artifacts are timed, and layers compared with the float model's.

    Raises:
        EdgecError: the error concerns all artifacts, or no backend has its packages; with `all_or_nothing`, any error
            of the tree.
    """
    plan = context.plan
    _check_toolchains(context, all_or_nothing=all_or_nothing)
    import_ahead(context.log, context.threads)
    inputs = inputs or read_inputs(context)
    model = inputs.model
    if lock is not None:
        lock.check_inputs(model.source, inputs.calibration, inputs.evaluation, inputs.training, context.progress)
    context.subscriber(InputsRead(inputs))
    findings = find_problems(context, inputs)
    for finding in findings:
        context.subscriber(ProblemFound(finding))
    reference = run_float(context, inputs)
    settled = settle_metric(context, inputs, reference)
    if lock is not None:
        lock.check_metric(settled.reads, context.progress)
    weak = check_float(context, inputs, reference)
    passes, notes = transform(context, inputs)
    prepared = Prepared(
        inputs, reference, settled.metric, passes, (*notes, *settled.notes, *weak), findings,
        {**settled.code, **settled.reads}, tuple(settled.reads),
    )  # fmt: skip
    locked = lock.entries() if lock is not None else {}
    bound = lock is not None and lock.is_binding
    workers = WorkerGroup(context.log)
    made = make_artifacts(
        context, prepared, locked, workers, bound=bound, all_or_nothing=all_or_nothing, in_full=in_full
    )  # fmt: skip
    built = tuple(item for item in made if isinstance(item, BuiltArtifact))
    if in_full:
        built = tuple(
            timed(with_ranges(item, context, inputs, workers), context, inputs.evaluation, workers) for item in built
        )
    gates = judge(plan.project.gates, plan.target, [item for one in built for item in one.measurements])
    failures = tuple(item for item in made if isinstance(item, FailedArtifact))
    return BuildResult(prepared, built, gates, failures)


def _check_toolchains(context: BuildContext, *, all_or_nothing: bool) -> None:
    """Report artifacts that cannot be made here; that none can, or not all where all are needed, is an error."""
    plan = context.plan
    require_any_toolchain(plan)
    for item in plan.emits if all_or_nothing else ():
        require_toolchain(plan, item)
    for file, error in without_toolchain(plan).items():
        context.subscriber(ArtifactUnavailable(file, error))


def _locked(result: BuildResult) -> Mapping[str, LockedArtifact]:
    """Entries of edgec.lock; an artifact whose search ended for want of time is left out."""
    return {
        one.artifact.file: LockedArtifact(recipe=one.attempt.recipe, precision=one.attempt.precision, rungs=one.rungs)
        for one in result.built
        if not one.hurried
    }
