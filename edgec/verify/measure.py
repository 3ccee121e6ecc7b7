"""From what a worker ran to a `Measurement`."""

from __future__ import annotations

from pathlib import Path

from edgec.backends.interface import Artifact, RuntimeSpec
from edgec.backends.registry import package_version
from edgec.errors import EdgecError
from edgec.machine import Machine
from edgec.model.spec import Array
from edgec.verify.agreement import interval_of
from edgec.verify.fidelity import compare_outputs
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs, first_output, open_outputs
from edgec.verify.records import Measurement
from edgec.verify.requests import RunAnswer
from edgec.workers.worker import WorkerResult


def measure(
    artifact: Artifact,
    file: Path,
    runtime: RuntimeSpec,
    result: WorkerResult[RunAnswer] | EdgecError,
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
    worked = result if isinstance(result, WorkerResult) and not failure else None
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
        ops=worked.value.ops if worked else (),
        latency=None,  # taken later, when nothing else runs
        peak_rss_mb=worked.peak_rss_mb if worked else None,
        failure=failure,
    )


def _outputs(result: WorkerResult[RunAnswer] | EdgecError, reference: Outputs) -> tuple[str, dict[str, Array]]:
    """Why there are no outputs to compare (or ""), and the outputs in the order of the float model's."""
    if isinstance(result, EdgecError):  # without its log, whose path does not belong into records
        return f"{result.where}: {result.what}" if result.where else result.what, {}
    if failure := result.value.failure:
        return failure, {}
    given = open_outputs(result.value.outputs)
    outputs: dict[str, Array] = {}
    for name, wanted in reference.items():
        if name not in given:
            return f'gives no output "{name}"', {}
        if given[name].shape != wanted.shape:
            got, want = list(given[name].shape[1:]), list(wanted.shape[1:])
            return f'output "{name}" has shape {got}, the float model {want}', {}
        outputs[name] = given[name]
    return "", outputs
