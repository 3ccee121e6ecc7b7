"""The worker task that runs one artifact in one runtime over all samples and audits its ops."""

from __future__ import annotations

import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgec.backends.interface import Artifact, Runner, RuntimeComparer
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, UnsupportedError
from edgec.model.spec import Tensors
from edgec.verify.outputs import OutputWriter
from edgec.workers.worker import LIGHT, WITH_TORCH, Progress

COMPARED_SAMPLES = 4
"""Samples that two runtimes are compared on op by op."""


def run_artifact(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Run an artifact (an `edgec.workers.worker` task).

    Args:
        payload: ``artifact`` (record, as JSON text or values), ``file``, ``runtime``, ``spool`` and ``out`` (folders),
            ``threads``.
        progress: told the name of each step.

    Returns:
        ``outputs`` (output name -> .npy of shape (samples, *output shape)), ``ops`` (`OpRecord`s),
        ``failure`` (why the runtime cannot run the artifact; all else is then empty).
    """
    record = payload["artifact"]
    artifact = Artifact.model_validate_json(record if isinstance(record, str) else json.dumps(record))
    spool = Spool(Path(payload["spool"]))
    threads = int(payload["threads"])
    runtime = str(payload["runtime"])
    try:
        progress(f"load in {runtime}")
        runner = get_backend(artifact.backend).runner(artifact, Path(payload["file"]), runtime, threads)
        progress(f"run {len(spool)} samples in {runtime}")
        outputs = run_samples(runner, spool, artifact, Path(payload["out"]))
        progress(f"read the ops in {runtime}")
        ops = [item.model_dump(mode="json") for item in runner.ops()]
    except UnsupportedError as error:
        return {"outputs": {}, "ops": [], "failure": str(error)}
    except EdgecError:
        raise
    except Exception as exc:  # whatever a runtime raises over an artifact is what is to be found out here
        traceback.print_exc()
        return {"outputs": {}, "ops": [], "failure": f"{type(exc).__name__}: {exc}"}
    return {
        "outputs": outputs,
        "ops": ops,
        "failure": "",
    }


def imports_of(artifact: Artifact) -> Sequence[str]:
    """What the process of a task that runs an artifact has imported beforehand: nothing that other runtimes lack."""
    return WITH_TORCH if get_backend(artifact.backend).format.runs_in_torch else LIGHT


def first_difference(payload: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """Where two runtimes of an artifact begin to compute different things (an `edgec.workers.worker` task).

    Args:
        payload: ``artifact`` (record), ``file``, ``right`` and ``wrong`` (runtimes), ``spool`` (folder), ``threads``.
        progress: told the name of each step.

    Returns:
        ``op`` (an `edgec.backends.interface.OpDifference`, or None when the backend cannot tell).
    """
    artifact = Artifact.model_validate_json(json.dumps(payload["artifact"]))
    backend = get_backend(artifact.backend)
    if not isinstance(backend, RuntimeComparer):
        return {"op": None}
    right, wrong = str(payload["right"]), str(payload["wrong"])
    progress(f"compare {wrong} with {right}, op by op")
    spool = Spool(Path(payload["spool"]))
    samples = [spool[index] for index in range(min(COMPARED_SAMPLES, len(spool)))]
    found = backend.first_difference(artifact, Path(payload["file"]), right, wrong, samples, int(payload["threads"]))
    return {"op": None if found is None else found.model_dump(mode="json")}


def run_samples(runner: Runner, samples: Sequence[Tensors], artifact: Artifact, out: Path) -> dict[str, str]:
    """Run an artifact on samples, one after the other.

    Returns:
        Output name -> .npy in folder `out`, of shape (samples, *output shape).

    Raises:
        UnsupportedError: an output is missing, or its shape depends on the data.
    """
    names = [item.name for item in artifact.outputs]
    writer = OutputWriter(out, len(samples))
    for index, sample in enumerate(samples):
        outputs = runner(sample)
        if missing := sorted(set(names) - set(outputs)):
            raise UnsupportedError(f"the runtime gives no output {', '.join(missing)}")
        writer.put(index, {name: outputs[name] for name in names})
    return writer.close()
