"""The worker task that makes one cell, unless it has been made meanwhile."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from edgec.plan.context import BuildContext
from edgec.plan.plan import make_plan
from edgec.project.spec import Project
from edgec.storage.cache import Cache
from edgec.storage.files import write_atomically
from edgec.storage.workspace import cache_folder, checkpoint_folder, explained, workspace
from edgec.sweep.store import RECORD, SAMPLE, CellArtifact, CellRecord, CellStore, FailedPart, digest_sample
from edgec.target.load import ResolvedTarget
from edgec.target.spec import Target
from edgec.workers.worker import Progress

TASK = "edgec.sweep.cell:run_cell"


@dataclass(frozen=True)
class CellRequest:
    """A cell to be made by any process that sees the same files."""

    key: str
    label: str
    payload: dict[str, Any]
    """Of `run_cell`."""

    @property
    def log(self) -> Path:
        """Of the host that makes it: leftovers in its folder are told from others by process numbers."""
        return Path(self.payload["out"], ".work", _workplace(self.key), "build.log")


def run_cell(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Make a cell and keep it (an `edgec.workers.worker` task).

    Args:
        payload: ``key``, ``target`` and ``project`` (records), ``root``, ``out`` and ``cwd`` (folders), ``threads``,
            ``known`` (SHA-256 of the files that are part of the key, by path).
        progress: told each step.

    Returns:
        ``made``: whether it was not there before.

    Raises:
        EdgecError: any error of a build; of artifacts that fail alone only when all do, or when it may be no fault
            of theirs.
        ProjectError: a file that the key is made of is another one now.
    """
    key, out, root = str(payload["key"]), Path(payload["out"]), Path(payload["root"])
    store = CellStore(out, root)
    with contextlib.chdir(payload["cwd"]), store.lock(key):
        if store.get(key) is not None:
            return {"made": False}
        target = Target.model_validate_json(payload["target"])
        project = Project.model_validate_json(payload["project"])
        project = project.model_copy(update={"build": project.build.model_copy(update={"out": str(out)})})
        plan = make_plan(ResolvedTarget(target, {}, ()), project)
        with workspace(out, _workplace(key)) as (scratch, log), explained(log):
            context = BuildContext(
                plan, root, scratch, log, Cache(cache_folder(out)), checkpoint_folder(out), payload["threads"], 1,
                subscriber_of(progress),
            )  # fmt: skip
            known = {Path(name): str(sha256) for name, sha256 in payload["known"].items()}
            _check_unchanged(known, store)
            with record_file_accesses(root, out, *known) as reads:
                result = compile_target(context, None, None, in_full=False)
            _check_unchanged(known, store)
            made = scratch / "cell"
            record = _keep(key, result, made)
            files = {store.relative(path): digest_file(path).sha256 for path in reads.files}
            listed = {store.relative(path): digest_names(path, out) for path in reads.folders}
            record = record.model_copy(
                update={"reads": dict(sorted(files.items())), "listed": dict(sorted(listed.items()))}
            )
            write_atomically(made / RECORD, record.model_dump_json(indent=1) + "\n")
            store.put(key, made)
    return {"made": True}


def _check_unchanged(known: Mapping[Path, str], store: CellStore) -> None:
    for path, sha256 in known.items():
        try:
            same = digest_file(path).sha256 == sha256
        except OSError:
            same = False
        if not same:
            raise ProjectError(
                "it has changed while the cell was made", where=store.relative(path), hint="run the sweep again"
            )


def _workplace(key: str) -> str:
    return f"sweep/hosts/{socket.gethostname()}/{key[:16]}"


def _keep(key: str, result: BuildResult, folder: Path) -> CellRecord:
    """Move what the cell consists of to `folder`; everything but ``cell.json``."""
    for failure in result.failures:
        if outside_the_model(failure.error):
            raise failure.error  # another time it may come out: nothing is kept
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
