"""An ONNX artifact, loaded and ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.backend.protocol import Artifact, OpRecord
from edgec.backends.onnxruntime.audit import executed_ops
from edgec.backends.onnxruntime.session import open_session
from edgec.errors import InputSpecError, UnsupportedError
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
        self._session = open_session(file, threads=threads)
        there = {item.name for item in (*self._session.get_inputs(), *self._session.get_outputs())}
        stated = {item.artifact_name for item in (*artifact.inputs, *artifact.outputs)}
        if missing := sorted(stated - there):
            raise UnsupportedError(f"the file has no tensor {', '.join(missing)}", where=file.name)

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        feeds = {}
        for binding in self._artifact.inputs:
            if binding.name not in inputs:
                raise InputSpecError(f'input "{binding.name}" is missing', where=self._file.name)
            value = np.ascontiguousarray(inputs[binding.name], dtype=binding.dtype)
            if value.shape != binding.shape:
                raise InputSpecError(
                    f'input "{binding.name}" has shape {value.shape}, the artifact takes {binding.shape}',
                    where=self._file.name,
                )
            feeds[binding.artifact_name] = value
        found = self._session.run([binding.artifact_name for binding in self._artifact.outputs], feeds)
        return {binding.name: value for binding, value in zip(self._artifact.outputs, found, strict=True)}

    def ops(self) -> Sequence[OpRecord]:
        return executed_ops(self._file, self._artifact.precision)
