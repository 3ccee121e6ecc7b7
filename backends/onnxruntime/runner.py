"""An ONNX artifact, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.interface import Artifact, OpRecord
from edgec.backends.onnxruntime.audit import executed_ops
from edgec.backends.onnxruntime.op_times import OpTime, op_times
from edgec.backends.onnxruntime.session import open_session, run
from edgec.errors import UnsupportedError
from edgec.model.spec import Array, Tensors


class OnnxRunner:
    """Runs one sample a call, with the float model's names and layout.

    Args:
        artifact: how to feed the file.
        file: the ONNX file.
        threads: threads within an op.

    Raises:
        UnsupportedError: ONNX Runtime refuses the file, or it does not have the artifact's tensors.
    """

    def __init__(self, artifact: Artifact, file: Path, threads: int) -> None:
        self._file = file
        self._artifact = artifact
        self._threads = threads
        self._session = open_session(file, threads=threads, widens=artifact.widens)
        there = {item.name for item in (*self._session.get_inputs(), *self._session.get_outputs())}
        stated = {item.artifact_name for item in (*artifact.inputs, *artifact.outputs)}
        if missing := sorted(stated - there):
            raise UnsupportedError(f"the file has no tensor {', '.join(missing)}", where=file.name)

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        names = [binding.artifact_name for binding in self._artifact.outputs]
        outputs = run(self._session, names, self._feeds(inputs), self._file.name)
        return model_outputs(self._artifact, outputs)

    def ops(self) -> Sequence[OpRecord]:
        recorded = {item.subject: item.reason for item in self._artifact.coverage}  # what the recipe kept, too
        return [
            op.model_copy(update={"reason": recorded[op.name].removeprefix(f"{op.op}: ")})
            if op.reason and op.name in recorded
            else op
            for op in executed_ops(self._file, self._artifact.precision)
        ]

    def op_times(self, inputs: Tensors, runs: int) -> Sequence[OpTime]:
        """Time of each executed op on one sample, over `runs` runs."""
        return op_times(self._file, self._feeds(inputs), runs=runs, threads=self._threads)

    def _feeds(self, inputs: Tensors) -> dict[str, Array]:
        names = [binding.artifact_name for binding in self._artifact.inputs]
        return dict(zip(names, artifact_inputs(self._artifact, inputs), strict=True))
