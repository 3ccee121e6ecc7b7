"""Made-up samples that fit an input spec, for checks that two forms of a model compute the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgec.model.spec import Array, TensorSpec

if TYPE_CHECKING:
    import torch


def sample_arrays(specs: Sequence[TensorSpec], seed: int) -> tuple[Array, ...]:
    """One sample a spec: standard normal for floats, 0 or 1 for the rest (the ids that every vocabulary has)."""
    source = np.random.default_rng(seed)
    arrays: list[Array] = []
    for spec in specs:
        if spec.dtype.startswith("float"):
            arrays.append(source.standard_normal(spec.shape).astype(spec.dtype))
        else:
            arrays.append(source.integers(0, 2, spec.shape).astype(spec.dtype))
    return tuple(arrays)


def sample_tensors(specs: Sequence[TensorSpec], seed: int) -> tuple[torch.Tensor, ...]:
    """`sample_arrays` as torch tensors."""
    import torch

    return tuple(torch.from_numpy(array) for array in sample_arrays(specs, seed))


def close(
    actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], *, tolerance: float = 1e-4, smallest: float = 1e-7
) -> bool:
    """Whether two lists of outputs agree: same shapes, and differences within `tolerance` of an output's largest.

    Positions where both are NaN, or the same infinity, agree: a made-up sample may leave the model's domain.

    Args:
        actual: outputs.
        expected: outputs to compare with.
        tolerance: as a share of the largest magnitude of an output.
        smallest: absolute difference that is always allowed.
    """
    import torch

    if len(actual) != len(expected):
        return False
    for ours, theirs in zip(actual, expected, strict=True):
        if ours.shape != theirs.shape:
            return False
        if not theirs.is_floating_point():
            if not torch.equal(ours.to(theirs.dtype), theirs):
                return False
            continue
        finite = theirs[torch.isfinite(theirs)]
        largest = float(finite.abs().max()) if finite.numel() else 0.0
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=max(tolerance * largest, smallest), equal_nan=True):
            return False
    return True
