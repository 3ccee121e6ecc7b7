"""The harness of a bundle: the program itself, and the inputs and outputs that it replays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.interface import Artifact, TensorBinding
from edgec.backends.registry import get_backend, package_version
from edgec.bundle.write import storage_errors
from edgec.errors import BackendUnavailableError, InternalError
from edgec.model.spec import Array
from edgec.target.spec import Precision, Target

HARNESS = Path(__file__).parent / "harness"

_RELATIVE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2, "int8-dynamic": 5e-2,
    "int8-weight-only": 1e-3, "int4-weight-only": 1e-3,
}  # fmt: skip
"""Allowed difference as a share of the output's range: kernels of other CPUs add up in another order."""
_STEPS = 3
"""Allowed difference of an int8-computed output, in its quantization steps."""
_UNEQUAL: dict[Precision, float] = {"fp32": 0.0, "fp16": 0.1, "int8": 0.25, "int8-dynamic": 0.25,
    "int8-weight-only": 0.0, "int4-weight-only": 0.0,
}  # fmt: skip
"""Share of elements of an integer output (classes, indices) that may differ: a near tie may fall the other way."""


@dataclass(frozen=True)
class HarnessArtifact:
    """One artifact with the outputs it had when the bundle was built."""

    artifact: Artifact
    runtimes: tuple[str, ...]
    """Runtimes it was verified in; the first is the default."""
    expected: Mapping[str, Array]
    """Its own outputs for the harness's inputs, by the float model's names and layout; first axis: samples."""


def write_harness(
    folder: Path, target: Target, artifacts: Sequence[HarnessArtifact], inputs: Mapping[str, Array]
) -> None:
    """Write ``bench/`` of a bundle; the same arguments give the same bytes.

    Args:
        folder: the folder ``bench`` itself; made if it is not there.
        target: for the default threads, warm-up and runs.
        artifacts: the primary one first.
        inputs: samples in the float model's layout; first axis: samples, then the input's shape with its batch axis.

    Raises:
        BackendUnavailableError: backends of two artifacts run one format in different ways.
        StorageError: the write is refused.
    """
    counts = {len(array) for array in inputs.values()}
    counts |= {len(array) for item in artifacts for array in item.expected.values()}
    if len(counts) != 1 or counts == {0}:
        raise InternalError(f"the harness's inputs and outputs have different numbers of samples: {sorted(counts)}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_programs(folder, [item.artifact for item in artifacts])
        np.savez_compressed(folder / "inputs.npz", **inputs)  # its archives hold no time of writing
        for item in artifacts:
            np.savez_compressed(folder / expected_file(item.artifact.file), **item.expected)
        config = {
            "schema_version": 1,
            "target": target.name,
            "threads": target.bench.threads,
            "warmup": target.bench.warmup,
            "runs": target.bench.runs,
            "artifacts": [_describe(item) for item in artifacts],
        }
        (folder / "bench.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        (folder / "requirements.txt").write_text(_requirements(target, artifacts))


def can_replay(artifact: Artifact) -> bool:
    """Whether the harness runs artifacts of this format."""
    return get_backend(artifact.backend).format.runner is not None


def write_programs(folder: Path, artifacts: Iterable[Artifact]) -> None:
    """Write what a harness runs: ``bench.py``, ``run.sh``, and the runner of each format.

    Args:
        folder: where to; it is there.
        artifacts: what the harness is for.

    Raises:
        BackendUnavailableError: backends of two artifacts run one format in different ways.
        OSError: the write is refused.
    """
    for name in ("bench.py", "run.sh"):
        shutil.copyfile(HARNESS / name, folder / name)
        (folder / name).chmod(0o755)
    written: dict[str, bytes] = {}
    for artifact in artifacts:
        declared = get_backend(artifact.backend).format
        if declared.runner is None:
            continue
        program = declared.runner.read_bytes()
        if written.setdefault(declared.name, program) != program:
            raise BackendUnavailableError(
                f'another backend of this target runs the format "{declared.name}" in another way',
                where=f"backend {artifact.backend}",
                hint="give the format of your backend a name of its own, or emit the artifacts for different targets",
            )
        (folder / f"run_{declared.name}.py").write_bytes(program)


def expected_file(artifact_file: str) -> str:
    """Name of the file in ``bench/`` with the recorded outputs of an artifact."""
    return f"expected-{artifact_file}.npz"


def _describe(item: HarnessArtifact) -> dict[str, Any]:
    artifact = item.artifact
    return {
        "file": artifact.file,
        "format": artifact.format,
        "engine": artifact.engine,
        "widens": artifact.widens,
        "runtimes": list(item.runtimes),
        "expected": expected_file(artifact.file),
        "inputs": [binding.model_dump(mode="json") for binding in artifact.inputs],
        "outputs": [
            {**binding.model_dump(mode="json"), **tolerance(artifact.precision, binding, item.expected[binding.name])}
            for binding in artifact.outputs
        ],
    }


def tolerance(precision: Precision, binding: TensorBinding, expected: Array) -> dict[str, float | None]:
    """How far an output may be from `expected` on another machine.

    Args:
        precision: of the artifact.
        binding: the output.
        expected: its values at the build; first axis: samples.

    Returns:
        ``atol``, the largest absolute difference; or, for outputs that are not floats, ``max_unequal``, the largest
        share of elements that differ. The other one is None.
    """
    if not np.issubdtype(expected.dtype, np.floating):
        return {"atol": None, "max_unequal": _UNEQUAL[precision]}
    if precision == "int8" and binding.step is not None:
        return {"atol": _STEPS * binding.step, "max_unequal": None}
    finite = expected[np.isfinite(expected)].astype(np.float64)
    extent = max(float(np.ptp(finite)), float(np.abs(finite).max())) if finite.size else 0.0
    return {"atol": max(_RELATIVE[precision] * extent, 1e-6), "max_unequal": None}


def _requirements(target: Target, artifacts: Sequence[HarnessArtifact]) -> str:
    """What the primary artifact's first runtime needs; what the others need stands in comments."""
    needs: dict[str, list[str]] = {}
    for item in artifacts:
        for name in item.runtimes:
            needs.setdefault(name, _needs(target, item.artifact, name))
    lines, *others = needs.values()
    if others:
        lines += ["# for the other artifacts and runtimes of this bundle:", *(f"# {need[-1]}" for need in others)]
    return "\n".join(lines) + "\n"


def _needs(target: Target, artifact: Artifact, runtime: str) -> list[str]:
    """Requirements of a runtime, itself last."""
    backend = get_backend(artifact.backend)
    specs = [item for emit in target.emit if emit.backend == backend.name for item in backend.runtimes(target, emit)]
    distribution = next((item.distribution for item in specs if item.name == runtime), runtime)
    packages = [item for item in backend.packages if item.distribution == distribution and item.purpose == "run"]
    requires = packages[0].requires if packages else ("numpy",)
    return [*requires, *([] if distribution in requires else [_pin(distribution)])]


def _pin(distribution: str) -> str:
    version = package_version(distribution)
    return f"{distribution}=={version.partition('+')[0]}" if version else distribution  # PyPI has no local versions
