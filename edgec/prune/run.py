"""Pruning within a build: once for all targets and builds that ask for the same, and never twice at a time."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

import filelock

from edgec.backends.registry import package_version
from edgec.build.job import Job
from edgec.dataset.spool import Spool
from edgec.errors import StorageError
from edgec.frozen import digest_json
from edgec.ladder.cells import COMMON_PACKAGES
from edgec.machine import host_machine
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassRecord
from edgec.passes.coverage import Coverage
from edgec.plan.plan import prune_options
from edgec.prune.latency_goal import FoundShare, find_share
from edgec.prune.task import refuse_without_graph
from edgec.storage.cache import code_digest
from edgec.storage.sealed import seal, unseal, user_key
from edgec.storage.workspace import pruned_folder
from edgec.target.spec import PruneSpec
from edgec.train.task import loss_sources
from edgec.train.training_data import TrainingSamples
from edgec.workers.worker import WITH_TORCH, call

_RESULT = "pruned.json"
"""What the task returned, with the fingerprint of its model, sealed (`edgec.storage.sealed`)."""

_CODE = ("dataset", "model", "passes", "prune", "train")
"""Packages of the compiler that a pruned model depends on; it takes too long to make it again for any other."""


def prune(
    job: Job,
    spec: PruneSpec,
    model: FloatModel,
    training: TrainingSamples | None,
    calibration: Spool | None,
    evaluation: Spool,
) -> tuple[FloatModel, PassRecord]:
    """The pruned and trained model, as another build has left it or made now.

    Args:
        job: what is built.
        spec: what to remove, `PruneSpec.round_to` stated.
        model: of plain modules, with BatchNorm.
        training: samples to train with; None: there are none, and the target allows it.
        calibration: samples for artifacts that are timed.
        evaluation: the first of these is what they run.

    Raises:
        EdgecError: as of `edgec.prune.task.prune_model`; StorageError: the result cannot be kept.
    """
    refuse_without_graph(model)
    began, before = time.perf_counter(), store.fingerprint(model)
    identity = _identity(job, spec, before, training)
    goal: FoundShare | None = None
    if spec.goal == "latency" and spec.amount > 0:
        goal = find_share(job, spec, model, identity, calibration, evaluation)
        identity["share"] = goal.share
    key = digest_json(identity)
    folder = pruned_folder(job.root / job.plan.project.build.out) / key[:32]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder.with_suffix(".lock")):
            found = _kept(job, folder) or _make(job, spec, goal.share if goal else None, model, training, folder)
    except OSError as exc:
        raise StorageError(f"cannot keep the pruned model: {exc.strerror or exc}", where=str(folder)) from exc
    pruned, told = found
    after = told["fingerprint"]
    record = PassRecord(
        name="prune",
        options=prune_options(spec),
        state="changed" if after != before else "unchanged",
        summary=told["summary"],
        seconds=time.perf_counter() - began,
        before=before[:16],
        after=after[:16],
        coverage=(
            *(goal.coverage if goal else ()),
            *(Coverage.model_validate_json(json.dumps(item)) for item in told["coverage"]),
        ),
    )
    return pruned, record


def _identity(job: Job, spec: PruneSpec, before: str, training: TrainingSamples | None) -> dict[str, Any]:
    """Everything that the pruned model follows from."""
    project = job.plan.project
    train = project.train
    return {
        "model": before,
        "spec": spec.plain(),
        "training": training.read().info.content_digest if training else None,
        "train": train.model_dump(mode="json", include={"loss", "batch_size", "function"}) if train else None,
        "sources": loss_sources(train, job.root) if train else None,
        "seed": project.build.seed,
        "threads": job.threads,
        "toolchain": {name: package_version(name) for name in COMMON_PACKAGES} | {"python": platform.python_version()},
        "code": [code_digest(f"edgec.{name}") for name in _CODE],
        "machine": host_machine().plain(),
        "capability": os.environ.get("ATEN_CPU_CAPABILITY", ""),
    }


def _kept(job: Job, folder: Path) -> tuple[FloatModel, dict[str, Any]] | None:
    """What an earlier build of this user's has left; None when there is nothing, or it is damaged or not theirs."""
    key, private = user_key(), job.scratch / "kept"
    told = unseal(folder, _RESULT, folder.name, key, private) if key else None
    if told is None:
        return None
    try:
        model = store.load(private)
        return (model, told) if store.fingerprint(model) == told["fingerprint"] else None
    except Exception:  # versions are part of its name, but a pickle may depend on more than they tell
        return None


def _make(
    job: Job,
    spec: PruneSpec,
    share: float | None,
    model: FloatModel,
    training: TrainingSamples | None,
    folder: Path,
) -> tuple[FloatModel, dict[str, Any]]:
    train = job.plan.project.train
    whole, made, checkpoints = job.scratch / "unpruned", job.scratch / "pruned", folder.with_suffix(".training")
    store.save(model, whole)
    told = call(
        "edgec.prune.task:prune_model",
        {
            "model": str(whole),
            "spec": spec.model_dump_json(),
            "share": share,
            "round_to": spec.round_to,
            "train": train.model_dump_json() if train else None,
            "training": str(training.read().folder) if training else None,
            "out": str(made),
            "checkpoints": str(checkpoints),
            "root": str(job.root),
            "seed": job.plan.project.build.seed,
            "threads": job.threads,
        },
        log=job.log,
        what="pruning",
        threads=job.threads,
        imports=WITH_TORCH,
        on_progress=lambda step: job.progress(f"prune: {step}"),
    ).value
    pruned = store.load(made)
    told = {**told, "fingerprint": store.fingerprint(pruned)}
    if key := user_key():
        seal(made, _RESULT, told, folder.name, key)
        partial = folder.with_suffix(".partial")
        for left in (partial, folder):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(made, partial)
        partial.rename(folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return pruned, told
