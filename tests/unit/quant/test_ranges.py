"""Ranges: what every method promises, and what each does with known distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import DatasetError, InternalError
from edgec.quant.distribution import Distribution
from edgec.quant.qparams import qparams
from edgec.quant.ranges import FLOOR_DB, PERCENTILE, choose_range, needs_histogram
from edgec.quant.recipe import RANGE_METHODS
from edgec.quant.statistics import TensorStatistics

CLIPPING = tuple(method for method in RANGE_METHODS if needs_histogram(method))
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
SAMPLES = st.lists(st.lists(FLOATS, min_size=1, max_size=30), min_size=1, max_size=3)


def statistics(*arrays: object) -> TensorStatistics:
    result = TensorStatistics(True)
    for array in arrays:
        result.observe(np.asarray(array, np.float32))
    return result


def noise_of(values: np.ndarray, low: float, high: float) -> float:
    """Sum of squares of what quantization to int8 changes."""
    params = qparams(low, high, low_code=-128, high_code=127)
    codes = np.clip(np.rint(values / params.scale), -128 - params.zero_point, 127 - params.zero_point)
    return float(np.square(values - codes * params.scale).sum())


def sqnr_db(values: np.ndarray, low: float, high: float) -> float:
    return float(10 * np.log10(np.square(values).sum() / noise_of(values, low, high)))


def gaussian(count: int = 200_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("method", RANGE_METHODS)
@given(samples=SAMPLES)
@settings(max_examples=40, deadline=None)
def test_a_range_holds_zero_and_lies_in_what_was_seen(method, samples):
    seen = statistics(*samples)
    low, high = choose_range(seen, method)
    assert np.isfinite([low, high]).all()
    assert low <= 0 <= high
    assert min(seen.low, 0) <= low
    assert high <= max(seen.high, 0)


@given(SAMPLES)
@settings(max_examples=60, deadline=None)
def test_mse_expects_no_more_error_than_minmax(samples):
    seen = statistics(*samples)
    distribution = Distribution.of(seen)
    chosen, whole = (choose_range(seen, method) for method in ("mse", "minmax"))
    ends = np.array([chosen, whole]) / distribution.unit
    errors = distribution.errors(ends[:, 0], ends[:, 1])
    assert errors[0] <= errors[1] * (1 + 1e-9)


@pytest.mark.parametrize("ends", [(-3.0, 4.0), (-0.5, 3.9), (0.0, 2.0), (-4.0, 0.0)])
def test_the_expected_error_is_the_error(ends):
    values = gaussian(400_000)
    distribution = Distribution.of(statistics(*values.reshape(10, -1)))
    expected = distribution.errors(*(np.array([end]) / distribution.unit for end in ends))[0]
    assert expected * distribution.unit**2 == pytest.approx(noise_of(values, *ends), rel=0.01)
    assert distribution.power * distribution.unit**2 == pytest.approx(np.square(values).sum(), rel=1e-3)


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.0], (0.0, 0.0)),
        ([3.0] * 10, (0.0, 3.0)),
        ([-3.0] * 10, (-3.0, 0.0)),
        ([2.0**-146, -(2.0**-146)], (-(2.0**-146), 2.0**-146)),
        ([1e30, -3e38], (-3e38, 1e30)),
    ],
    ids=["zeros", "constant", "negative constant", "subnormal", "huge"],
)
def test_degenerate_tensors_keep_their_range(method, values, expected):
    assert choose_range(statistics(values), method) == pytest.approx(expected, abs=1e-3 * np.abs(values).max())


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("sides", [(-1.0, 1.0), (0.0, 1.0), (-0.25, 1.0)])
def test_of_uniform_values_nearly_nothing_is_cut(method, sides):
    values = np.random.default_rng(0).uniform(*sides, (20, 20_000))
    low, high = choose_range(statistics(*values), method)
    assert low == pytest.approx(sides[0], abs=0.01)
    assert high == pytest.approx(sides[1], abs=0.01)


def test_percentiles_are_exact_on_known_values():
    cut = (1 - PERCENTILE / 100) / 2
    values = np.arange(1, 100_001) / 100_000  # k-th value k / 100000
    low, high = choose_range(statistics(*values.reshape(10, -1)), "percentile")
    assert low == 0.0, "a one-sided tensor keeps its side at zero"
    assert high == pytest.approx(1 - cut, abs=1e-5)
    both = np.concatenate([-values, 2 * values])
    low, high = choose_range(statistics(*both.reshape(10, -1)), "percentile")
    assert (low, high) == pytest.approx((-1 + 2 * cut, 2 - 4 * cut), abs=1e-4)
    zeros = np.zeros((90, 10_000))
    assert choose_range(statistics(*zeros, *both.reshape(10, -1)), "percentile") == (low, high)


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize("rectify", [False, True])
def test_rare_outliers_are_cut_and_it_pays(method, rectify):
    values = gaussian()
    samples = [*values.reshape(20, -1), [30.0, -30.0 if not rectify else 0.0]]
    if rectify:
        samples = [np.maximum(sample, 0) for sample in samples]
    low, high = choose_range(statistics(*samples), method)
    assert 2.5 < high < 28
    assert (low == 0) if rectify else (-28 < low < -2.5)
    inside = np.maximum(values, 0) if rectify else values
    assert sqnr_db(inside, low, high) > sqnr_db(inside, min(np.min(samples[-1]), 0), 30.0) + 0.9


@pytest.mark.parametrize("method", CLIPPING)
def test_the_short_side_of_a_skewed_tensor_is_kept(method):
    x = 6 * gaussian()
    silu = x / (1 + np.exp(-x))
    low, high = choose_range(statistics(*silu.reshape(20, -1)), method)
    assert low < -0.2  # of -0.278
    assert high > 10


@pytest.mark.parametrize("method", CLIPPING)
@pytest.mark.parametrize(
    "kind", ["logits", "few logits", "sparse", "classes", "channel", "heavy", "massive", "peaked", "tiny sample"]
)
def test_no_method_ruins_a_tensor_that_minmax_does_not(kind, method):
    random = np.random.default_rng(1)
    if kind == "logits":
        samples = random.standard_normal((256, 10)) * 5
    elif kind == "few logits":
        samples = random.standard_normal((2, 10)) * 5
    elif kind == "sparse":
        samples = np.where(random.random((20, 20_000)) < 0.999, 0, np.abs(random.standard_normal((20, 20_000))))
    elif kind == "classes":
        samples = random.integers(0, 3, (20, 1000)).astype(np.float64)
    elif kind == "channel":  # one of 64 with fifty times the values
        samples = random.standard_normal((20, 64, 300)) * np.where(np.arange(64) == 7, 50, 1)[:, None]
    elif kind == "heavy":
        samples = random.standard_t(2, (20, 20_000))
    elif kind == "massive":  # as of transformers: one value in 50000, and all depends on it
        samples = random.standard_normal((20, 50_000))
        samples[:, 77] = 1000
    elif kind == "peaked":
        samples = random.laplace(size=(20, 20_000)) ** 3
    else:
        samples = random.standard_normal((1, 5))
    values = samples.reshape(-1)
    seen = statistics(*samples)
    chosen = sqnr_db(values, *choose_range(seen, method))
    whole = sqnr_db(values, *choose_range(seen, "minmax"))
    assert chosen > min(whole, FLOOR_DB) - 0.5


def test_exact_zeros_change_no_range_that_a_histogram_gives():
    values = np.maximum(gaussian(), 0).reshape(20, -1)
    for method in CLIPPING:
        plain = choose_range(statistics(*(row[row > 0] for row in values)), method)
        assert choose_range(statistics(*values, *np.zeros((100, 10_000))), method) == plain


@pytest.mark.parametrize("name", ["gaussian", "laplacian"])
def test_thresholds_are_near_those_of_torch_and_onnxruntime(name, capsys):
    import torch
    from onnxruntime.quantization.calibrate import HistogramCollector
    from torch.ao.quantization.observer import HistogramObserver

    random = np.random.default_rng(0)
    rows = (random.standard_normal if name == "gaussian" else random.laplace)(size=(10, 20_000)).astype(np.float32)
    seen = statistics(*rows)

    observer = HistogramObserver(reduce_range=False)
    for row in rows:
        observer(torch.from_numpy(row))
    scale, _ = observer.calculate_qparams()
    low, high = choose_range(seen, "mse")
    assert (high - low) / 255 == pytest.approx(float(scale), rel=0.25)

    collector = HistogramCollector("entropy", False, 1024, 128, 99.99, "same")
    collector.collect({"x": [rows]})
    theirs = collector.compute_collection_result()["x"]
    capsys.readouterr()  # it prints
    low, high = choose_range(seen, "entropy")
    assert high == pytest.approx(float(theirs[1]), rel=0.4)


def test_channels_have_no_one_range():
    together = TensorStatistics(False, 0)
    together.observe(np.ones((3, 5), np.float32))
    with pytest.raises(InternalError, match="3 channels"):
        choose_range(together, "minmax")


def test_moving_averages_are_held_inside_what_was_seen():
    seen = statistics([2.0, 5.0], [-1.0, 3.0])
    assert choose_range(seen, "moving-average") == pytest.approx((0.0, 5 - 0.02))


@pytest.mark.parametrize("samples", [[], [[1.0, np.nan]], [[-np.inf]]])
def test_what_has_no_finite_values_has_no_range(samples):
    with pytest.raises(DatasetError, match="layer7") as caught:
        choose_range(statistics(*samples), "minmax", name="layer7")
    assert caught.value.hint


def test_a_method_that_needs_a_histogram_says_so():
    seen = TensorStatistics(False)
    seen.observe(np.ones(3, np.float32))
    assert choose_range(seen, "minmax") == (0.0, 1.0)
    with pytest.raises(InternalError, match="needs a histogram"):
        choose_range(seen, "entropy")
