"""The harness of a bundle: the program itself, and the inputs and outputs that it replays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.interface import Artifact, Format, TensorBinding
from edgec.backends.registry import package_version
from edgec.errors import InternalError
from edgec.model.spec import Array
from edgec.storage.files import storage_errors
from edgec.target.spec import Precision, Target

HARNESS = Path(__file__).parent / "harness"
FORMATS: tuple[Format, ...] = ("tflite", "onnx", "torchscript")
"""Formats that bench.py has a runner for."""

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
        StorageError: the write is refused.
    """
    counts = {len(array) for array in inputs.values()}
    counts |= {len(array) for item in artifacts for array in item.expected.values()}
    if len(counts) != 1 or counts == {0}:
        raise InternalError(f"the harness's inputs and outputs have different numbers of samples: {sorted(counts)}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("bench.py", "run.sh"):
            shutil.copyfile(HARNESS / name, folder / name)
            (folder / name).chmod(0o755)
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
        (folder / "requirements.txt").write_text(_requirements(artifacts))


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

    Returns:
        ``atol``, the largest absolute difference; or, for outputs that are no floats, ``max_unequal``, the largest
        share of elements that differ. The other one is None.
    """
    if not np.issubdtype(expected.dtype, np.floating):
        return {"atol": None, "max_unequal": _UNEQUAL[precision]}
    if precision == "int8" and binding.step is not None:
        return {"atol": _STEPS * binding.step, "max_unequal": None}
    finite = expected[np.isfinite(expected)].astype(np.float64)
    extent = max(float(np.ptp(finite)), float(np.abs(finite).max())) if finite.size else 0.0
    return {"atol": max(_RELATIVE[precision] * extent, 1e-6), "max_unequal": None}


def _requirements(artifacts: Sequence[HarnessArtifact]) -> str:
    """NumPy and the primary artifact's first runtime; what the others need stands in comments."""
    names = list(dict.fromkeys(name for item in artifacts for name in item.runtimes))
    # not the build's NumPy: a board's Python may be older or newer than any that this version has wheels for
    lines = ["numpy<2" if names[:1] == ["tflite-runtime"] else "numpy", *(_pin(name) for name in names[:1])]
    if names[1:]:
        lines += ["# for the other artifacts and runtimes of this bundle:", *(f"# {_pin(name)}" for name in names[1:])]
    return "\n".join(lines) + "\n"


def _pin(distribution: str) -> str:
    version = package_version(distribution)
    return f"{distribution}=={version.partition('+')[0]}" if version else distribution  # PyPI has no local versions
