"""Pruning within a build: once for all targets and builds that ask for the same, and by one build at a time."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from edgec.dataset.spool import Spool
from edgec.errors import StorageError
from edgec.frozen import Frozen, digest_json
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassRecord
from edgec.passes.coverage import Coverage
from edgec.plan.context import BuildContext
from edgec.plan.identity import environment
from edgec.plan.plan import prune_options
from edgec.prune.kept_model import load_pruned, save_pruned
from edgec.prune.latency_goal import find_share
from edgec.prune.requests import PruneAnswer, PruneRequest
from edgec.prune.task import refuse_without_graph
from edgec.storage.guard import guarded
from edgec.storage.workspace import pruned_folder
from edgec.target.spec import PruneSpec
from edgec.train.task import loss_sources
from edgec.train.training_data import TrainingSamples
from edgec.workers.worker import WITH_TORCH, call

_RESULT = "pruned.json"
"""A `PruneResult`."""


class PruneResult(Frozen):
    """A pruned model, as it is kept beside its tensors."""

    answer: PruneAnswer
    fingerprint: str
    """Of the model (`edgec.model.store.fingerprint`)."""


_CODE = tuple(f"edgec.{name}" for name in ("dataset", "model", "passes", "prune", "train"))
"""Packages that a pruned model depends on: pruning takes too long to be repeated when another one changes."""


def prune(
    context: BuildContext,
    spec: PruneSpec,
    model: FloatModel,
    training: TrainingSamples | None,
    calibration: Spool | None,
    evaluation: Spool,
) -> tuple[FloatModel, PassRecord]:
    """The pruned and trained model, from an earlier build or made now.

    Args:
        context: of the build.
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
    identity = _identity(context, spec, before, training)
    share: float | None = None
    coverage: tuple[Coverage, ...] = ()
    if spec.goal == "latency" and spec.amount > 0:
        share, coverage = find_share(context, spec, model, identity, calibration, evaluation)
        identity["share"] = share
    folder = pruned_folder(context.root / context.plan.project.build.out) / digest_json(identity)[:32]
    try:
        with guarded(folder.with_suffix(".lock")):
            pruned, result = _kept(model, folder) or _make(context, spec, share, model, training, folder)
    except OSError as exc:
        raise StorageError(f"cannot keep the pruned model: {exc.strerror or exc}", where=str(folder)) from exc
    after, answer = result.fingerprint, result.answer
    record = PassRecord(
        name="prune",
        options=prune_options(spec),
        state="changed" if after != before else "unchanged",
        summary=answer.summary,
        seconds=time.perf_counter() - began,
        before=before[:16],
        after=after[:16],
        coverage=(*coverage, *answer.coverage),
    )
    return pruned, record


def _identity(context: BuildContext, spec: PruneSpec, before: str, training: TrainingSamples | None) -> dict[str, Any]:
    """Everything that the pruned model depends on."""
    project = context.plan.project
    train = project.train
    return {
        "environment": environment(code=_CODE).plain(),
        "model": before,
        "spec": spec.plain(),
        "training": training.read().info.content_digest if training else None,
        "train": train.model_dump(mode="json", include={"loss", "batch_size", "function"}) if train else None,
        "sources": loss_sources(train, context.root) if train else None,
        "seed": project.build.seed,
        "threads": context.threads,
    }


def _kept(whole: FloatModel, folder: Path) -> tuple[FloatModel, PruneResult] | None:
    """The result of an earlier build; None when there is none, or it is damaged."""
    try:
        result = PruneResult.model_validate_json((folder / _RESULT).read_text())
        model = load_pruned(whole, folder)
        return (model, result) if store.fingerprint(model) == result.fingerprint else None
    except Exception:  # whatever a damaged file makes a library raise
        return None


def _make(
    context: BuildContext,
    spec: PruneSpec,
    share: float | None,
    model: FloatModel,
    training: TrainingSamples | None,
    folder: Path,
) -> tuple[FloatModel, PruneResult]:
    train = context.plan.project.train
    whole, made, checkpoints = context.scratch / "unpruned", context.scratch / "pruned", folder.with_suffix(".training")
    store.save(model, whole)
    answer = call(
        "edgec.prune.task:prune_model",
        PruneRequest(
            model=whole,
            spec=spec,
            share=share,
            train=train,
            training=training.read().folder if training else None,
            out=made,
            checkpoints=checkpoints,
            root=context.root,
            seed=context.plan.project.build.seed,
            threads=context.threads,
        ),
        PruneAnswer,
        log=context.log,
        what="pruning",
        threads=context.threads,
        imports=WITH_TORCH,
        on_progress=lambda step: context.progress(f"prune: {step}"),
    ).value
    pruned = store.load(made)
    result = PruneResult(answer=answer, fingerprint=store.fingerprint(pruned))
    partial = folder.with_suffix(".partial")
    for left in (partial, folder):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    save_pruned(pruned, partial)
    (partial / _RESULT).write_text(result.model_dump_json(indent=1))
    partial.rename(folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return pruned, result
