"""The worker task that runs one artifact in one runtime over all samples and audits its ops."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

from edgec.backends.interface import Artifact, Runner, RuntimeComparer
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.errors import EdgecError, UnsupportedError
from edgec.model.spec import Tensors
from edgec.verify.outputs import OutputWriter
from edgec.verify.requests import DifferenceAnswer, DifferenceRequest, RunAnswer, RunRequest
from edgec.workers.worker import LIGHT, WITH_TORCH, Progress

COMPARED_SAMPLES = 4
"""Samples that two runtimes are compared on op by op."""


def run_artifact(request: RunRequest, progress: Progress) -> RunAnswer:
    """Run an artifact in a runtime over all samples, and read its ops (a task of `edgec.workers.worker`).

    Args:
        request: what to run, and where.
        progress: called with the name of each step.

    Raises:
        EdgecError: the failure is not the runtime's, as a full disk.
    """
    artifact, runtime, spool = request.artifact, request.runtime, Spool(request.spool)
    try:
        progress(f"load in {runtime}")
        runner = get_backend(artifact.backend).runner(artifact, request.file, runtime, request.threads)
        progress(f"run {len(spool)} samples in {runtime}")
        outputs = run_samples(runner, spool, artifact, request.out)
        progress(f"read the ops in {runtime}")
        ops = tuple(runner.ops())
    except UnsupportedError as error:
        return RunAnswer(failure=str(error))
    except EdgecError:
        raise
    except Exception as exc:  # a runtime that fails over an artifact is a result
        traceback.print_exc()
        return RunAnswer(failure=f"{type(exc).__name__}: {exc}")
    return RunAnswer(outputs=outputs, ops=ops)


def imports_of(artifact: Artifact) -> Sequence[str]:
    """Modules that the process which runs an artifact has imported beforehand: torch only where it is the runtime."""
    return WITH_TORCH if get_backend(artifact.backend).format.runs_in_torch else LIGHT


def first_difference(request: DifferenceRequest, progress: Progress) -> DifferenceAnswer:
    """Find the op at which two runtimes begin to compute different values (a task of `edgec.workers.worker`)."""
    backend = get_backend(request.artifact.backend)
    if not isinstance(backend, RuntimeComparer):
        return DifferenceAnswer(op=None)
    right, wrong, spool = request.right, request.wrong, Spool(request.spool)
    progress(f"compare {wrong} with {right}, op by op")
    samples = [spool[index] for index in range(min(COMPARED_SAMPLES, len(spool)))]
    op = backend.first_difference(request.artifact, request.file, right, wrong, samples, request.threads)
    return DifferenceAnswer(op=op)


def run_samples(runner: Runner, samples: Sequence[Tensors], artifact: Artifact, out: Path) -> dict[str, str]:
    """Run an artifact on samples, one after the other.

    Args:
        runner: the loaded artifact.
        samples: in the float model's names and layout.
        artifact: names its outputs.
        out: folder to write to; made if it is not there.

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
