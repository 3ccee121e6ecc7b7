"""Quantization-aware training as a task of a worker process (`edgec.workers.worker`)."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.dataset.entry import entry_place, python_entry
from edgec.dataset.python_files import python_files
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, PassError, ProjectError, UnsupportedError
from edgec.frozen import digest_json
from edgec.model import store
from edgec.model.spec import FloatModel
from edgec.project.load import split_entry
from edgec.project.spec import TrainSpec
from edgec.quant.recipe import WeightGrid
from edgec.storage.cache import code_digest
from edgec.workers.worker import Progress

if TYPE_CHECKING:
    from edgec.train.prepare import TrainableModel
    from edgec.train.samples import Samples


def train_quantized(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Train a float model until its weights do well on a backend's grid, and write it as a float model again.

    The weights of the result are ``scale * code``, and its ranges are left to the backends.

    Args:
        payload: ``model`` (folder of `edgec.model.store`: after the portable passes), ``grid`` (record),
            ``activations`` ("int8", or "float" for weight-only artifacts; "int8" if missing), ``keep_zeros`` (whether
            weights that are exactly zero stay so; false if missing), ``spec`` (record), ``training`` (spool folder),
            ``calibration`` (the same, or None), ``out`` (folder to write the model to), ``checkpoints`` (folder kept
            between builds), ``root`` (project folder), ``seed``, ``threads``.
        progress: receives each epoch.

    Returns:
        ``epochs`` (records with ``epoch``, ``loss`` and ``metric``), ``metric`` (its name), ``summary`` (one line),
        ``coverage`` (records: what is not simulated).

    Raises:
        UnsupportedError: the model has no graph, or no layer with weights.
        ProjectError: ``[train]`` is wrong, or the user's functions fail.
        PassError: the model cannot be differentiated.
    """
    from edgec.train.deterministic import deterministic_torch

    model = store.load(Path(payload["model"]))
    if model.graph is None:
        raise UnsupportedError(
            f"the model has no graph, so it cannot be trained: {model.untraceable}",
            where=model.name,
            hint="leave [train] out, or give the model as a torch module that can be traced",
        )
    with deterministic_torch(payload["seed"], payload["threads"]):
        try:
            return _train(model, payload, progress)
        except EdgecError:
            raise
        except (RuntimeError, NotImplementedError) as exc:
            what = (str(exc).strip().splitlines() or ["no message"])[0]
            raise PassError(f"training failed: {what}", where="train", hint="leave [train] out") from exc


def _train(model: FloatModel, payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    from edgec.passes.graph_edit import own_graph
    from edgec.train.checkpoint import Checkpoint
    from edgec.train.fit import Fit
    from edgec.train.loop import Teacher, loss_of
    from edgec.train.prepare import TrainableModel
    from edgec.train.samples import Samples, takes_batches

    assert model.graph is not None
    spec = TrainSpec.model_validate_json(payload["spec"])
    grid = WeightGrid.model_validate_json(payload["grid"])
    root, seed = Path(payload["root"]), payload["seed"]
    samples = Samples(Spool(Path(payload["training"])), model.inputs)
    calibration = Samples(Spool(Path(payload["calibration"])), model.inputs) if payload["calibration"] else None
    activations = payload.get("activations", "int8") == "int8"
    progress("prepare")
    teacher = Teacher(model.graph, takes_batches(model.graph, samples))
    fits = []
    for start in _starts(model, payload):
        assert start.graph is not None
        trained = TrainableModel(
            start.graph, grid, samples[0][0], activations=activations, keep_zeros=payload.get("keep_zeros", False)
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
        initial = own_graph(model)
        trained.into(initial)
        if spec.function:
            records, stopped = _run_function(spec.function, root, seed, trained, samples), ""
        else:
            checkpoint = Checkpoint(Path(payload["checkpoints"]), _key(model, payload, root, spec))
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
    store.save(replace(model.with_graph(graph, same_function=False), notes=notes), Path(payload["out"]))
    return {
        "epochs": records,
        "metric": fit.metric_name,
        "summary": summary,
        "coverage": [json.loads(item.model_dump_json()) for item in trained.left_float()],
    }


def _starts(model: FloatModel, payload: dict[str, Any]) -> tuple[FloatModel, ...]:
    """What training may begin with: the model as it is, and with its layers' ranges made equal."""
    from edgec.passes.equalize_cross_layer import equalize

    calibration = Spool(Path(payload["calibration"])) if payload["calibration"] else None
    try:
        return model, equalize(model, calibration, payload["threads"]).model
    except PassError:  # what cannot be equalized without a change of its outputs
        return (model,)


def _run_function(entry: str, root: Path, seed: int, model: TrainableModel, samples: Samples) -> list[dict[str, Any]]:
    """The user's own loop, on the model itself."""
    model.follow(True)
    with python_entry(entry, root, ProjectError, seed=seed) as function:
        try:
            returned = function(model, samples)
        except Exception as exc:
            file = str(root / entry.rpartition(":")[0])
            raise ProjectError(f"{type(exc).__name__}: {exc}", where=entry_place(exc, file)) from exc
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
    return []


def _key(model: FloatModel, payload: dict[str, Any], root: Path, spec: TrainSpec) -> str:
    """What the state of training follows from: its own options, the data, and what computes."""
    import torch

    def digest_of(folder: str | None) -> str:
        return Spool(Path(folder)).info.content_digest if folder else ""

    return digest_json(
        {
            "model": store.fingerprint(model),
            "training": digest_of(payload["training"]),
            "calibration": digest_of(payload["calibration"]),
            "spec": json.loads(payload["spec"]),
            "grid": json.loads(payload["grid"]),
            "activations": payload.get("activations", "int8"),
            "keep_zeros": payload.get("keep_zeros", False),
            "seed": payload["seed"],
            "threads": payload["threads"],
            "edgec": code_digest("edgec"),
            "torch": torch.__version__,
            "kernels": torch.backends.cpu.get_cpu_capability(),
            "sources": loss_sources(spec, root),
        }
    )


def loss_sources(spec: TrainSpec, root: Path) -> dict[str, str]:
    """SHA-256 (hex) of the Python files that a loss of the user's is in or may import, by path within its folder."""
    entry = split_entry(spec.loss)
    if entry is None:
        return {}
    folder = (root / entry[0]).parent
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in python_files(folder)
    }
