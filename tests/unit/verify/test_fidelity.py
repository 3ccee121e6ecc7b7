"""SQNR by its definition, and at its edges."""

import math

import numpy as np
import pytest

from edgec.verify.fidelity import compare, compare_outputs
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


def test_scores_beside_boxes_have_an_sqnr_of_their_own():
    rng = np.random.default_rng(0)
    boxes, scores = rng.uniform(2, 640, (5, 1, 4, 50)), rng.uniform(0, 1, (5, 1, 8, 50))
    wanted = {"y": np.concatenate([boxes, scores], 2), "z": np.ones((5, 1, 3))}
    got = {"y": np.concatenate([boxes, np.zeros_like(scores)], 2), "z": np.full((5, 1, 3), 1.1)}
    assert compare("y", wanted["y"], got["y"]).sqnr_db > 50  # as if the lost scores were noise
    found = compare_outputs(wanted, got)
    assert [(item.output, item.tensor, item.channels) for item in found] == [
        ("y[0:4]", "y", "0:4"),
        ("y[4:12]", "y", "4:12"),
        ("z", "z", ""),
    ]
    assert [round(item.sqnr_db, 6) for item in found] == [math.inf, 0.0, 20.0]
    assert [item.equal for item in found] == [None] * 3
    assert OutputFidelity.model_validate_json(found[1].model_dump_json()) == found[1]


def test_what_differs_between_samples_is_told():
    rng = np.random.default_rng(0)
    scores = np.array([4.0, 3.0, 2.0]) + rng.normal(0, 0.2, (400, 1, 3))
    constant = compare("y", scores, np.broadcast_to(scores.mean(axis=0), scores.shape))
    assert constant.sqnr_db > 20
    assert constant.varying_db == pytest.approx(0.0, abs=1e-6)
    shifted = compare("y", scores, scores + 0.3)
    assert shifted.sqnr_db < 22
    assert shifted.varying_db == math.inf
    noisy = compare("y", scores, scores + rng.normal(0, 0.02, scores.shape))
    assert noisy.varying_db == pytest.approx(20.0, abs=0.5)
    assert compare("y", np.ones((5, 2)), np.zeros((5, 2))).varying_db is None
    assert compare("y", scores[:1], scores[:1]).varying_db is None
    assert compare("y", scores, scores).varying_db == math.inf


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_class_numbers_are_equal_or_not(dtype):
    wanted = (np.arange(200).reshape(2, 1, 10, 10) % 7).astype(dtype)
    got = wanted.copy()
    got[0, 0, 0, :2] = (True, False) if dtype == "bool" else (5, 6)
    (found,) = compare_outputs({"y": wanted}, {"y": got})
    assert found.equal == pytest.approx(0.99)
    assert found.sqnr_db == pytest.approx(10 * math.log10(200 / 4))
    (same,) = compare_outputs({"y": wanted}, {"y": wanted})
    assert (same.equal, same.sqnr_db, same.max_abs_error) == (1.0, math.inf, 0.0)


def test_shades_of_a_picture_are_sizes():
    wanted = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    (found,) = compare_outputs({"y": wanted}, {"y": wanted ^ 1})
    assert found.equal is None
    assert 40 < found.sqnr_db < 50


def test_shapes_must_match():
    with pytest.raises(ValueError, match="shape"):
        compare("y", np.zeros((2, 3)), np.zeros((2, 4)))
