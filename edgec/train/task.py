"""Quantization-aware training as a task of a worker process (`edgec.workers.worker`)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.dataset.entry import entry_errors, python_entry
from edgec.dataset.python_files import python_files
from edgec.dataset.spool import Spool
from edgec.errors import PassError, ProjectError, UnsupportedError
from edgec.frozen import digest_json
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.plan.identity import environment
from edgec.project.load import split_entry
from edgec.project.spec import TrainSpec
from edgec.storage.files import sha256_of
from edgec.train.requests import TrainAnswer, TrainRequest
from edgec.workers.worker import Progress

if TYPE_CHECKING:
    from edgec.train.prepare import TrainableModel
    from edgec.train.samples import Samples


def train_quantized(request: TrainRequest, progress: Progress) -> TrainAnswer:
    """Train a float model until its weights do well on a backend's grid, and write it as a float model again.

    The weights of the result are ``scale * code``, and its ranges are left to the backends.

    Args:
        request: what to train, with which data.
        progress: receives each epoch.

    Raises:
        UnsupportedError: the model has no graph, or no layer with weights.
        ProjectError: ``[train]`` is wrong, or the user's functions fail.
        PassError: the model cannot be differentiated.
    """
    from edgec.train.deterministic import deterministic_torch

    model = store.load(request.model)
    if model.graph is None:
        raise UnsupportedError(
            f"the model has no graph, so it cannot be trained: {model.untraceable}",
            where=model.name,
            hint="leave [train] out, or give the model as a torch module that can be traced",
        )
    with deterministic_torch(request.seed, request.threads):
        try:
            return _train(model, request, progress)
        except RuntimeError as exc:
            what = (str(exc).strip().splitlines() or ["no message"])[0]
            raise PassError(f"training failed: {what}", where="train", hint="leave [train] out") from exc


def _train(model: FloatModel, request: TrainRequest, progress: Progress) -> TrainAnswer:
    from edgec.passes.graph_edit import own_graph
    from edgec.train.checkpoint import Checkpoint
    from edgec.train.fit import Fit
    from edgec.train.loop import Teacher, loss_of
    from edgec.train.prepare import TrainableModel
    from edgec.train.samples import Samples, takes_batches

    assert model.graph is not None
    spec, grid, root, seed = request.spec, request.grid, request.root, request.seed
    samples = Samples(Spool(request.training), model.inputs)
    calibration = Samples(Spool(request.calibration), model.inputs) if request.calibration else None
    activations = request.activations == "int8"
    progress("prepare")
    teacher = Teacher(model.graph, takes_batches(model.graph, samples))
    fits = []
    for start in _starts(model, request):
        assert start.graph is not None
        trained = TrainableModel(
            start.graph, grid, samples[0][0], activations=activations, keep_zeros=request.keep_zeros
        )
        if not trained.layers:
            raise UnsupportedError("the model has no layer whose weights could be trained", where=model.name)
        fits.append((start, trained, Fit(trained, teacher, samples, calibration, spec, grid, seed)))
    with loss_of(spec, root, seed, samples, teacher) as loss:
        for _, _, fit in fits:
            fit.calibrate()
        scores = [fit.judge(loss) for _, _, fit in fits]
        best = min(range(len(fits)), key=lambda index: (not math.isfinite(scores[index].loss), scores[index].loss))
        before, (model, trained, fit) = scores[best], fits[best]
        initial = trained.into(own_graph(model))
        records, stopped = list[dict[str, Any]](), ""
        if spec.function:
            _run_function(spec.function, root, seed, trained, samples)
        else:
            checkpoint = Checkpoint(request.checkpoints, _key(model, request))
            records, stopped = fit.run(loss, checkpoint, progress)
        if not stopped:
            trained.place()
            fit.calibrate()
            after = fit.judge(loss)
            if not after.loss <= before.loss and not spec.function:
                stopped = f"the loss on the training data became worse ({before.loss:.4g} -> {after.loss:.4g})"
    if stopped:
        graph, summary = initial, f"{stopped}: weights are only rounded"
    else:
        graph = trained.into(own_graph(model))
        how = f"with {spec.function}" if spec.function else f"for {len(records)} epochs"
        summary = (
            f"trained {how} on {len(samples)} samples: loss {before.loss:.4g} -> {after.loss:.4g}, "
            f"{fit.metric_name} {before.metric:.2f} -> {after.metric:.2f}"
        )
    notes = (*model.notes, summary)
    store.save(replace(model.with_graph(graph, same_function=False), notes=notes), request.out)
    coverage = tuple(trained.left_float())
    return TrainAnswer(epochs=tuple(records), metric=fit.metric_name, summary=summary, coverage=coverage)


def _starts(model: FloatModel, request: TrainRequest) -> tuple[FloatModel, ...]:
    """What training may begin with: the model as it is, and with its layers' ranges made equal."""
    from edgec.passes.equalize_cross_layer import equalize

    calibration = Spool(request.calibration) if request.calibration else None
    try:
        return model, equalize(model, calibration, request.threads).model
    except PassError:  # what cannot be equalized without a change of its outputs
        return (model,)


def _run_function(entry: str, root: Path, seed: int, model: TrainableModel, samples: Samples) -> None:
    """The user's own loop, on the model itself."""
    model.follow(True)
    file = str(root / entry.rpartition(":")[0])
    with python_entry(entry, root, ProjectError, seed=seed) as function, entry_errors(ProjectError, file):
        returned = function(model, samples)
    model.follow(False)
    if returned is not None and returned is not model:
        if not isinstance(returned, type(model)):
            raise ProjectError(
                f"it returned a {type(returned).__name__}",
                where=entry,
                hint="return nothing, or the model it was given",
            )
        model.load_state_dict(returned.state_dict())
    model.hold_zeros()  # the user's loop knows nothing of them
    if not all(bool(value.isfinite().all()) for value in model.parameters()):
        raise ProjectError("it leaves weights that are not finite", where=entry, hint="try a smaller learning rate")


def _key(model: FloatModel, request: TrainRequest) -> str:
    """What the state of training depends on: its own options, the data, and what computes."""

    def digest_of(folder: Path | None) -> str:
        return Spool(folder).info.content_digest if folder else ""

    return digest_json(
        {
            "environment": environment().plain(),
            "model": store.fingerprint(model),
            "training": digest_of(request.training),
            "calibration": digest_of(request.calibration),
            "spec": request.spec.plain(),
            "grid": request.grid.plain(),
            "activations": request.activations,
            "keep_zeros": request.keep_zeros,
            "seed": request.seed,
            "threads": request.threads,
            "sources": loss_sources(request.spec, request.root),
        }
    )


def loss_sources(spec: TrainSpec, root: Path) -> dict[str, str]:
    """SHA-256 (hex) of the Python files that a loss of the user's is in or may import, by path within its folder."""
    entry = split_entry(spec.loss)
    if entry is None:
        return {}
    folder = (root / entry[0]).parent
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in python_files(folder)}
