"""SQNR by its definition, and at its edges."""

import math

import numpy as np
import pytest

from edgec.verify.fidelity import compare
from edgec.verify.records import OutputFidelity


def test_sqnr_over_several_chunks():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(3000, 1, 1000)).astype(np.float32)  # 12 MB, and as float64 compared in parts
    got = wanted + np.float32(0.01) * rng.normal(size=wanted.shape).astype(np.float32)
    result = compare("y", np.concatenate([wanted, wanted]), np.concatenate([got, got]))
    noise = (wanted.astype(float) - got) ** 2
    assert result.sqnr_db == pytest.approx(10 * math.log10((wanted.astype(float) ** 2).sum() / noise.sum()))
    assert result.max_abs_error == pytest.approx(math.sqrt(noise.max()))


@pytest.mark.parametrize(
    ("wanted", "got", "sqnr", "error"),
    [
        ([1.0, -np.inf], [1.0, -np.inf], math.inf, 0.0),
        ([0.0, 0.0], [0.0, 1.0], -math.inf, 1.0),
        ([1.0, 1.0], [1.0, np.nan], -math.inf, math.inf),
        ([1.0, 1.0], [1.0, np.inf], -math.inf, math.inf),
    ],
)
def test_edges_and_json(wanted, got, sqnr, error):
    result = compare("y", np.array(wanted)[None], np.array(got)[None])
    assert (result.sqnr_db, result.max_abs_error) == (sqnr, error)
    assert OutputFidelity.model_validate_json(result.model_dump_json()) == result


def test_shapes_must_match():
    with pytest.raises(ValueError, match="shape"):
        compare("y", np.zeros((2, 3)), np.zeros((2, 4)))
