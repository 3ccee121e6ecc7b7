"""Op by op, where two interpreters of one file begin to compute different things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgec.backends.binding import artifact_inputs
from edgec.backends.interface import Artifact, OpDifference
from edgec.backends.tflite.runner import load
from edgec.model.spec import Array, Tensors
from edgec.quant.fidelity import SqnrMeter

MOST_DB = 120.0
"""Above this two float tensors are equal but for the order of additions."""
LEAST_DB = -20.0
NOTABLE_DB = 10.0
"""Loss of SQNR from an op's inputs to its output that rounding does not explain."""


def first_difference(
    artifact: Artifact, file: Path, right: str, wrong: str, samples: Sequence[Tensors], threads: int
) -> OpDifference | None:
    """The op after which two runtimes are farthest apart, as seen from what it was given.

    Both run without delegates, which hide what lies between the ops that they take over: where the builtin kernels
    agree, no op is named. Arguments as of `edgec.backends.interface.RuntimeComparer`.
    """
    known, doubted = (_Program(artifact, file, runtime, threads) for runtime in (right, wrong))
    meters = {index: SqnrMeter() for op in known.ops for index in op.outputs}
    for sample in samples:
        known.run(sample)
        doubted.run(sample)
        for index, meter in meters.items():
            with suppress(ValueError):  # a tensor without values (of a variable, say), or of another shape
                meter.add(known.read(index), doubted.read(index))
    near = {index: min(max(meter.sqnr_db, LEAST_DB), MOST_DB) for index, meter in meters.items()}
    differences = [
        OpDifference(
            name=known.names[op.outputs[0]],
            op=op.kind,
            before_db=min((near[index] for index in op.inputs if index in near), default=MOST_DB),
            sqnr_db=min(near[index] for index in op.outputs),
        )
        for op in known.ops
        if op.outputs
    ]
    worst = max(differences, key=lambda item: item.before_db - item.sqnr_db, default=None)
    return worst if worst is not None and worst.before_db - worst.sqnr_db > NOTABLE_DB else None


class _Op:
    """One operator of a program, by the numbers of its tensors."""

    def __init__(self, details: Mapping[str, Any]) -> None:
        self.kind = str(details["op_name"])
        self.inputs, self.outputs = ([int(index) for index in details[key]] for key in ("inputs", "outputs"))


class _Program:
    """A file in one runtime, with all tensors to be read."""

    def __init__(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> None:
        self._artifact = artifact
        self._interpreter = load(runtime, file, plain=True, num_threads=threads, experimental_preserve_all_tensors=True)
        self._details = {item["index"]: item for item in self._interpreter.get_tensor_details()}
        self._fed = {item["name"]: item["index"] for item in self._interpreter.get_input_details()}
        self.names = {index: str(item["name"]) for index, item in self._details.items()}
        self.ops = [_Op(item) for item in self._interpreter._get_ops_details()]

    def run(self, sample: Tensors) -> None:
        for binding, value in zip(self._artifact.inputs, artifact_inputs(self._artifact, sample), strict=True):
            self._interpreter.set_tensor(self._fed[binding.artifact_name], value)
        self._interpreter.invoke()

    def read(self, index: int) -> Array:
        """A tensor's values, dequantized."""
        values: Array = self._interpreter.get_tensor(index)
        scale, zero_point = self._details[index]["quantization"]
        if values.dtype.kind == "i" and scale:
            return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
        return values
