"""Samples in an artifact's layout, and its outputs back in the float model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgec.backends.binding import artifact_inputs, model_outputs
from edgec.backends.interface import Artifact, TensorBinding
from edgec.errors import InputSpecError


def artifact(**binding: Any) -> Artifact:
    tensor = TensorBinding(name="x", artifact_name="in", **{"shape": (1, 4, 5, 3), "dtype": "float32", **binding})
    return Artifact(
        backend="tflite", format="tflite", file="model.tflite", precision="fp32", inputs=(tensor,), outputs=(tensor,)
    )


def test_layout_and_dtype_there_and_back() -> None:
    x = np.arange(60, dtype=np.float64).reshape(1, 3, 4, 5)
    (fed,) = artifact_inputs(artifact(permutation=(0, 2, 3, 1)), {"x": x})
    assert fed.shape == (1, 4, 5, 3)
    assert fed.dtype == np.float32
    assert fed.flags.c_contiguous
    np.testing.assert_array_equal(fed[0, :, :, 1], x[0, 1])
    back = model_outputs(artifact(permutation=(0, 3, 1, 2)), [fed])
    np.testing.assert_array_equal(back["x"], x)


def test_scalars_stay_scalars() -> None:
    (fed,) = artifact_inputs(artifact(shape=(), dtype="int64"), {"x": np.array(3)})
    assert fed.shape == ()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputSpecError, match='"x" is missing'):
        artifact_inputs(artifact(), {"y": np.zeros(3)})
    with pytest.raises(InputSpecError, match=r"shape \(3, 2\), the artifact takes \(1, 4, 5, 3\)"):
        artifact_inputs(artifact(permutation=(0, 2, 3, 1)), {"x": np.zeros((3, 2))})
