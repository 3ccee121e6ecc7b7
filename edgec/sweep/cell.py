"""The worker task that makes one cell, unless it has been made meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgec.build.artifact import BuiltArtifact
from edgec.build.build import compile_target
from edgec.build.result import BuildResult
from edgec.bundle.manifest import accuracy_of, pass_facts
from edgec.bundle.write import digest_file
from edgec.dataset.file_accesses import digest_names, record_file_accesses
from edgec.dataset.spool import Spool, write_index
from edgec.errors import ProjectError, outside_the_model
from edgec.events import subscriber_of
from edgec.plan.context import build_context
from edgec.plan.plan import make_plan
from edgec.storage.files import write_atomically
from edgec.storage.workspace import explained
from edgec.sweep.requests import CellRequest
from edgec.sweep.store import RECORD, SAMPLE, CellArtifact, CellRecord, CellStore, FailedPart, digest_sample
from edgec.target.load import ResolvedTarget
from edgec.workers.records import Done
from edgec.workers.worker import Progress

TASK = "edgec.sweep.cell:run_cell"


def run_cell(request: CellRequest, progress: Progress) -> Done:
    """Make a cell and keep it (a task of `edgec.workers.worker`).

    Args:
        request: the cell.
        progress: called with each step.

    Raises:
        EdgecError: any error of a build; an error of a single artifact only when all fail, or when the cause may lie
            outside the model.
        ProjectError: a file that is part of the key has changed.
    """
    store = CellStore(request.out, request.root)
    with contextlib.chdir(request.working_folder), store.lock(request.key):
        if store.get(request.key) is None:
            _make(request, store, progress)
    return Done()


def _make(request: CellRequest, store: CellStore, progress: Progress) -> None:
    out, project = request.out, request.project
    project = project.model_copy(update={"build": project.build.model_copy(update={"out": str(out)})})
    plan = make_plan(ResolvedTarget(request.target, {}, ()), project)
    subscriber = subscriber_of(progress)
    with (
        build_context(
            plan, request.root, request.scratch, threads=request.threads, jobs=1, subscriber=subscriber
        ) as context,
        explained(context.log),
    ):
        _check_unchanged(request.inputs, store)
        with record_file_accesses(request.root, out, *request.inputs) as reads:
            result = compile_target(context, None, None, in_full=False)
        _check_unchanged(request.inputs, store)
        made = context.scratch / "cell"
        record = _keep(request.key, result, made)
        files = {store.relative(path): digest_file(path).sha256 for path in reads.files}
        listed = {store.relative(path): digest_names(path, out) for path in reads.folders}
        record = record.model_copy(
            update={"reads": dict(sorted(files.items())), "listed": dict(sorted(listed.items()))}
        )
        write_atomically(made / RECORD, record.model_dump_json(indent=1) + "\n")
        store.put(request.key, made)


def _check_unchanged(inputs: Mapping[Path, str], store: CellStore) -> None:
    for path, sha256 in inputs.items():
        try:
            same = digest_file(path).sha256 == sha256
        except OSError:
            same = False
        if not same:
            raise ProjectError(
                "the file changed while the cell was made", where=store.relative(path), hint="run the sweep again"
            )


def _keep(key: str, result: BuildResult, folder: Path) -> CellRecord:
    """Move the artifacts and the sample of a cell to `folder`, and return its record."""
    for failure in result.failures:
        if outside_the_model(failure.error):
            raise failure.error  # another attempt may succeed: nothing is kept
    if not result.built:
        raise result.failures[0].error
    folder.mkdir()
    for one in result.built:
        one.file.rename(folder / one.artifact.file)
    evaluation = result.prepared.inputs.evaluation
    _first_sample(evaluation, folder / SAMPLE)
    metrics = [item.metric.name for one in result.built for item in one.measurements if item.metric]
    return CellRecord(
        key=key,
        metric=metrics[0] if metrics else "sqnr",
        samples=len(evaluation),
        artifacts=tuple(_artifact(one, folder) for one in result.built),
        failures=tuple(FailedPart(file=item.file, reason=item.error.what) for item in result.failures),
        sample=digest_sample(folder),
        reads={},
        listed={},
    )


def _artifact(one: BuiltArtifact, folder: Path) -> CellArtifact:
    file = digest_file(folder / one.artifact.file)
    coverage = [*one.artifact.coverage, *(item for step in one.passes for item in step.coverage), *one.coverage]
    return CellArtifact(
        artifact=one.artifact,
        sha256=file.sha256,
        size=file.size,
        recipe=one.attempt.recipe,
        rungs=one.rungs,
        passes=tuple(pass_facts(step) for step in one.passes),
        accuracy=tuple(accuracy_of(item) for item in one.measurements),
        coverage=tuple(dict.fromkeys(coverage)),
    )


def _first_sample(spool: Spool, folder: Path) -> None:
    """A spool of one sample."""
    folder.mkdir()
    sample, group = spool[0], spool.info.group
    for index, item in enumerate(spool.info.inputs):
        np.save(folder / f"{index}.npy", sample[item.name][None])
    indices = spool.source_indices()[:group].tolist()
    write_index(
        folder, spool.info.inputs, digests=spool.sample_digests()[:group], indices=indices,
        labels=None, origin=spool.info.origin, notes=(), group=group,
    )  # fmt: skip
