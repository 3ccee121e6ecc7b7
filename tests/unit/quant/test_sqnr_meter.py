"""The streaming meter measures what `edgec.verify.fidelity` measures over whole arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgec.quant.fidelity import SqnrMeter
from edgec.verify.fidelity import compare


def metered(reference: np.ndarray, value: np.ndarray) -> float:
    meter = SqnrMeter()
    for wanted, got in zip(reference, value, strict=True):
        meter.add(wanted, got)
    return meter.sqnr_db


@pytest.mark.parametrize("noise", [0.0, 1e-6, 0.1, 10.0])
def test_in_parts_as_in_one(noise):
    random = np.random.default_rng(0)
    reference = random.standard_normal((20, 3, 7)).astype(np.float32)
    value = (reference + noise * random.standard_normal(reference.shape)).astype(np.float32)
    assert metered(reference, value) == pytest.approx(compare("y", reference, value).sqnr_db)


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ([[1.0], [np.inf]], [[1.5], [np.inf]]),
        ([[1.0], [np.inf]], [[1.0], [3.0]]),
        ([[np.nan], [1.0]], [[1.0], [1.0]]),
        ([[1.0], [1.0]], [[np.nan], [1.0]]),
        ([[0.0], [0.0]], [[0.0], [1.0]]),
        ([[0.0], [0.0]], [[0.0], [0.0]]),
    ],
)
def test_special_values_as_there(reference, value):
    reference, value = np.array(reference), np.array(value)
    assert metered(reference, value) == compare("y", reference, value).sqnr_db


def test_known_ratio():
    assert metered(np.full((4, 5), 10.0), np.full((4, 5), 9.0)) == pytest.approx(20.0)


def test_nothing_measured_is_no_noise_and_shapes_must_agree():
    meter = SqnrMeter()
    assert meter.sqnr_db == math.inf
    with pytest.raises(ValueError, match="shape"):
        meter.add(np.zeros(3), np.zeros((1, 3)))
