"""The process that makes one artifact: lower, the backend's passes, emit. Runs as a worker task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgec.backend.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.model import store
from edgec.passes.contract import PassContext
from edgec.passes.runner import run_passes
from edgec.quant.recipe import Recipe
from edgec.target.spec import Target
from edgec.worker import Progress


def compile_artifact(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Compile one artifact (an `edgec.worker` task).

    Args:
        payload: ``model`` (folder of `edgec.model.store`), ``target`` (record), ``emit`` (index), ``calibration``
            (spool folder or None), ``work`` and ``out`` (folders), ``seed``, ``threads``.
        progress: told the name of each step.

    Returns:
        ``artifact``: the `Artifact` record, ``passes``: the `PassRecord`s.
    """
    target = Target.model_validate_json(payload["target"])
    emit = target.emit[payload["emit"]]
    backend = get_backend(emit.backend)
    context = PassContext(
        target=target,
        work=Path(payload["work"]),
        calibration=Spool(Path(payload["calibration"])) if payload["calibration"] else None,
        seed=payload["seed"],
        threads=payload["threads"],
        emit=emit,
    )
    progress("load model")
    model = store.load(Path(payload["model"]))
    progress("lower")
    lowered = backend.lower(model, context)
    lowered, records = run_passes(
        backend.passes(target, emit, Recipe()), lowered, context, fingerprint=backend.fingerprint, on_progress=progress
    )
    progress("emit")
    artifact = backend.emit(lowered, context, Path(payload["out"]))
    return {
        "artifact": artifact.model_dump(mode="json"),
        "passes": [item.model_dump(mode="json") for item in records],
    }
