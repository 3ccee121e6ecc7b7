"""Between the float model's tensors and an artifact's: names, dtypes and layouts, the same for every runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgec.backends.interface import Artifact
from edgec.errors import InputSpecError
from edgec.model.spec import Array, Tensors


def artifact_inputs(artifact: Artifact, inputs: Tensors) -> list[Array]:
    """A sample as the artifact takes it: one contiguous array for each of ``artifact.inputs``, in their order.

    Raises:
        InputSpecError: an input is missing or has another shape.
    """
    arrays = []
    for binding in artifact.inputs:
        if binding.name not in inputs:
            raise InputSpecError(f'input "{binding.name}" is missing', where=artifact.file)
        value = np.asarray(inputs[binding.name], dtype=binding.dtype)
        if binding.permutation is not None and value.ndim == len(binding.permutation):
            value = np.transpose(value, binding.permutation)
        if value.shape != binding.shape and (value.ndim or math.prod(binding.shape) != 1):  # a scalar may be [1] there
            raise InputSpecError(
                f'input "{binding.name}" has shape {value.shape}, the artifact takes {binding.shape}',
                where=artifact.file,
            )
        arrays.append(np.ascontiguousarray(value).reshape(binding.shape))
    return arrays


def model_outputs(artifact: Artifact, outputs: Sequence[Array]) -> dict[str, Array]:
    """An artifact's outputs, in the order of ``artifact.outputs``, by the float model's names and in its layout."""
    return {
        binding.name: value if binding.permutation is None else np.transpose(value, binding.permutation)
        for binding, value in zip(artifact.outputs, outputs, strict=True)
    }
