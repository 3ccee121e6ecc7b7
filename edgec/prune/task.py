"""Pruning as a task of a worker process: channels, zeros, and the training that makes up for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.dataset.spool import Spool
from edgec.errors import PassError, ProjectError, UnsupportedError
from edgec.model import store
from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.prune.goals import GOALS, share_for
from edgec.prune.requests import PruneAnswer, PruneRequest
from edgec.target.spec import GRADIENT_IMPORTANCES
from edgec.workers.worker import Progress

if TYPE_CHECKING:
    from torch import fx

    from edgec.prune.account import Account
    from edgec.prune.finetune import TrainingContext
    from edgec.prune.structured import Removed
    from edgec.train.checkpoint import Checkpoint


def prune_model(request: PruneRequest, progress: Progress) -> PruneAnswer:
    """Prune a float model, train it, and write it as a float model again.

    Args:
        request: what to prune, and how.
        progress: called with each step and epoch.

    Raises:
        UnsupportedError: the model has no graph.
        ProjectError: importance or training need data that is not there, or ``[train]`` is wrong.
        TargetError: a name under ``ignore`` matches nothing.
        PassError: the model cannot be pruned (no layer of it can lose channels, say) or differentiated.
    """
    from edgec.train.deterministic import deterministic_torch

    model = store.load(request.model)
    refuse_without_graph(model)
    with deterministic_torch(request.seed, request.threads):
        try:
            return _prune(model, request, progress)
        except RuntimeError as exc:
            what = (str(exc).strip().splitlines() or ["no message"])[0]
            raise PassError(f"pruning failed: {what}", where="prune", hint="[prune] amount = 0") from exc


def refuse_without_graph(model: FloatModel) -> None:
    """Pruning edits the graph.

    Raises:
        UnsupportedError: there is none.
    """
    if model.graph is None:
        raise UnsupportedError(
            f"the model has no graph, so it cannot be pruned: {model.untraceable}",
            where=model.name,
            hint="leave [prune] out, or give the model as a torch module that can be traced",
        )


def _prune(model: FloatModel, request: PruneRequest, progress: Progress) -> PruneAnswer:
    from edgec.passes.graph_edit import own_graph
    from edgec.prune.account import Account
    from edgec.prune.finetune import fine_tune
    from edgec.prune.zeros import apply_masks, choose_masks

    spec, graph = request.spec, own_graph(model)
    may_stay_whole = spec.sparsity > 0 if request.may_stay_whole is None else request.may_stay_whole
    with _training_context(model, request, progress) as context:
        if context is None and spec.importance in GRADIENT_IMPORTANCES and spec.amount > 0:
            hint = '[train] data = "training.npz", or [prune] importance = "l1"'
            raise ProjectError(f"{spec.importance} importance needs training data", where="[prune]", hint=hint)
        share = _share(graph, model, request, progress)
        account = Account(spec, share)
        steps = spec.steps if context else 1  # without training between them they are one
        for step in range(1, steps + 1):
            report = _steps_of(progress, step, steps)
            if spec.amount > 0:
                report("remove channels")
                removed = _remove(graph, model, request, step / steps, account, context)
                account.remove(removed)
                graph = removed.graph
                if step == 1 and removed.stuck and not may_stay_whole:
                    what = f"the model has no layer that can lose channels ({removed.stuck})"
                    hint = "[prune] amount = 0, or sparsity, which any convolution or linear layer can have"
                    raise PassError(what, where=model.name, hint=hint)
            masks = choose_masks(graph, spec.sparsity * step / steps, spec.pattern)
            apply_masks(graph, masks)
            if context is not None and (masks or account.changed):  # else there is nothing to make up for
                checkpoint = partial(_checkpoint, request.checkpoints, step)
                account.tuned.append(fine_tune(graph, masks, context, spec, checkpoint, report))
                graph = account.tuned[-1].graph
    for value in graph.parameters():
        value.requires_grad_(False)
    store.save(model.with_graph(graph.eval(), same_function=False), request.out)
    return account.answer(graph, context)


def _checkpoint(folder: Path, step: int, rate: float) -> Checkpoint:
    from edgec.train.checkpoint import Checkpoint

    return Checkpoint(folder, f"step-{step}-rate-{rate:g}")


def _steps_of(progress: Progress, step: int, steps: int) -> Progress:
    return (lambda text: progress(f"step {step} of {steps}: {text}")) if steps > 1 else progress


def _remove(
    graph: fx.GraphModule,
    model: FloatModel,
    request: PruneRequest,
    done: float,
    account: Account,
    context: TrainingContext | None,
) -> Removed:
    """Remove channels until the part `done` of the share is gone, in multiples: channels do not come back."""
    from edgec.prune.finetune import importance_losses
    from edgec.prune.structured import remove_channels

    spec, left = request.spec, 1 - account.gone
    account.gone = account.share * done
    by_layer = spec.scope == "layer"
    losses = importance_losses(context, spec.importance) if context else None
    return remove_channels(
        graph,
        sample_tensors(model.inputs, seed=0),
        share=account.gone if by_layer else 1 - (1 - account.gone) / left,
        importance=spec.importance,
        scope=spec.scope,
        round_to=spec.round_to or 1,
        ignore=spec.ignore,
        whole=account.whole if by_layer else None,
        backward=losses,
    )


def _share(graph: fx.GraphModule, model: FloatModel, request: PruneRequest, progress: Progress) -> float:
    """The share of channels to remove."""
    spec = request.spec
    if request.share is not None:
        return request.share
    if spec.goal == "channels" or not spec.amount:
        return spec.amount
    if spec.goal == "latency":
        raise ProjectError("latency is measured by backends, which find the share", where="[prune] goal")
    progress(f"find the share of channels that makes {spec.amount:.0%} of the {GOALS[spec.goal]}")
    example, multiple = sample_tensors(model.inputs, seed=0), spec.round_to or 1
    return share_for(graph, example, spec.amount, spec.goal, scope=spec.scope, round_to=multiple, ignore=spec.ignore)


@contextlib.contextmanager
def _training_context(model: FloatModel, request: PruneRequest, progress: Progress) -> Iterator[TrainingContext | None]:
    """The context that fine-tuning uses; None without training data."""
    if request.training is None or request.train is None:
        yield None
        return
    from edgec.prune.finetune import TrainingContext
    from edgec.train.loop import Teacher, loss_of
    from edgec.train.samples import Samples, takes_batches

    assert model.graph is not None
    progress("prepare")
    spec, seed = request.train, request.seed
    samples = Samples(Spool(request.training), model.inputs)
    teacher = Teacher(model.graph, takes_batches(model.graph, samples))
    with loss_of(spec, request.root, seed, samples, teacher) as loss:
        yield TrainingContext(teacher, samples, loss, spec, seed)
