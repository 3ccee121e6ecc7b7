"""From what a worker ran to a `Measurement`."""

from __future__ import annotations

import json
from pathlib import Path

from edgec.backends.interface import Artifact, OpRecord, RuntimeSpec
from edgec.backends.registry import package_version
from edgec.errors import EdgecError
from edgec.machine import Machine
from edgec.model.spec import Array
from edgec.verify.agreement import interval_of
from edgec.verify.fidelity import compare_outputs
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs, first_output, open_outputs
from edgec.verify.records import Measurement
from edgec.workers.worker import WorkerResult


def measure(
    artifact: Artifact,
    file: Path,
    runtime: RuntimeSpec,
    result: WorkerResult | EdgecError,
    reference: Outputs,
    metric: Metric,
    machine: Machine,
) -> Measurement:
    """One artifact in one runtime against the float model.

    Args:
        artifact: what was run.
        file: its file, for the size.
        runtime: where it was run.
        result: of the worker task `edgec.verify.run.run_artifact`, or the error that ended its process.
        reference: the float model's outputs, in the model's order.
        metric: the settled metric, with the labels.
        machine: where the worker ran.

    Raises:
        ProjectError: the user's metric fails.
    """
    failure, outputs = _outputs(result, reference)
    total = len(first_output(reference))
    value = result.value if isinstance(result, WorkerResult) and not failure else {}
    shares = metric.agreement(reference, outputs) if outputs else None
    interval = None if shares is None else interval_of(shares)
    return Measurement(
        artifact=artifact.file,
        backend=artifact.backend,
        runtime=runtime.name,
        runtime_version=package_version(runtime.distribution) or "unknown",
        judged=runtime.judged,
        machine=machine,
        size_bytes=file.stat().st_size,
        samples=0 if failure else total,
        metric=metric.compare(reference, outputs) if outputs else None,
        agreement=None if shares is None else float(shares.mean()),
        agreement_low=interval.low if interval else None,
        fidelity=compare_outputs(reference, outputs) if outputs else (),
        ops=tuple(OpRecord.model_validate_json(json.dumps(item)) for item in value.get("ops", ())),
        latency=None,  # taken later, when nothing else runs
        peak_rss_mb=result.peak_rss_mb if isinstance(result, WorkerResult) and not failure else None,
        failure=failure,
    )


def _outputs(result: WorkerResult | EdgecError, reference: Outputs) -> tuple[str, dict[str, Array]]:
    """Why there are no outputs to compare (or ""), and the outputs in the order of the float model's."""
    if isinstance(result, EdgecError):  # without its log, whose place is no matter of the artifact
        return f"{result.where}: {result.what}" if result.where else result.what, {}
    if failure := str(result.value["failure"]):
        return failure, {}
    found = open_outputs(result.value["outputs"])
    outputs: dict[str, Array] = {}
    for name, wanted in reference.items():
        if name not in found:
            return f'gives no output "{name}"', {}
        if found[name].shape != wanted.shape:
            got, want = list(found[name].shape[1:]), list(wanted.shape[1:])
            return f'output "{name}" has shape {got}, the float model {want}', {}
        outputs[name] = found[name]
    return "", outputs
