"""Statistics of tensors: exact, independent of the order of samples, bounded in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.errors import UnsupportedError
from edgec.quant.statistics import BINS, CHANNEL_BINS, MAX_ELEMENTS, TensorStatistics, elements_of_each

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)
ARRAYS = st.lists(FLOATS, min_size=1, max_size=20).map(lambda values: np.array(values, np.float32))


def statistics(*arrays: np.ndarray, channel_axis: int | None = None) -> TensorStatistics:
    result = TensorStatistics(True, channel_axis)
    for array in arrays:
        result.observe(np.asarray(array))
    return result


@given(st.lists(ARRAYS, min_size=1, max_size=6), st.randoms())
@settings(max_examples=100, deadline=None)
def test_histograms_do_not_depend_on_the_order_or_grouping_of_values(arrays, random):
    shuffled = list(arrays)
    random.shuffle(shuffled)
    one, other, whole = statistics(*arrays), statistics(*shuffled), statistics(np.concatenate(arrays))
    for second in (other, whole):
        assert np.array_equal(one.histograms.counts, second.histograms.counts)
        assert one.histograms.exponents == second.histograms.exponents
        assert one.histograms.zeros == second.histograms.zeros
        assert (one.low, one.high, one.elements) == (second.low, second.high, second.elements)


@given(ARRAYS)
@settings(max_examples=100, deadline=None)
def test_every_value_is_counted_in_its_bin(array):
    histograms = statistics(array).histograms
    width = 2.0 ** int(histograms.exponents[0])
    expected = np.zeros(2 * BINS, np.int64)
    np.add.at(expected, np.floor(array.astype(np.float64) / width).astype(int) + BINS, 1)
    assert np.array_equal(histograms.counts[0], expected)
    assert histograms.zeros[0] == np.count_nonzero(array == 0)


@pytest.mark.parametrize("zeros", [0.1, 0.41, 0.9, 1.0])
def test_zeros_are_counted_however_many_there_are(zeros):
    random = np.random.default_rng(0)
    array = np.where(random.random(5000) < zeros, random.choice([0.0, -0.0], 5000), random.standard_normal(5000))
    array = array.astype(np.float32)
    histograms = statistics(array).histograms
    expected = np.bincount(np.floor(array / 2.0 ** histograms.exponents[0]).astype(int) + BINS, minlength=2 * BINS)
    assert np.array_equal(histograms.counts[0], expected)
    assert histograms.zeros[0] == np.count_nonzero(array == 0)


def test_at_least_half_of_the_bins_of_the_wider_side_are_in_reach():
    for largest in (1.0, 1.99, 2.0, 3e-5, 7e20):
        counts = statistics(np.array([-0.001 * largest, largest], np.float32)).histograms.counts[0]
        assert np.flatnonzero(counts)[-1] >= BINS + BINS // 2


def test_channels_have_the_histograms_that_they_have_alone():
    random = np.random.default_rng(0)
    scale = np.array([1.0, 1e-3, 1e5], np.float32)[:, None, None]
    samples = [random.standard_normal((3, 4, 5)).astype(np.float32) * scale * (1 + at) for at in range(4)]
    together = statistics(*samples, channel_axis=-3)
    for channel in range(3):
        alone = statistics(*(sample[channel][None] for sample in samples), channel_axis=0)
        assert np.array_equal(together.histograms.counts[channel], alone.histograms.counts[0])
        assert together.histograms.exponents[channel] == alone.histograms.exponents[0]
        assert together.lows[channel] == alone.low
        assert together.highs[channel] == alone.high
        assert together.average_lows[channel] == alone.average_lows[0]
    assert together.histograms.counts.shape == (3, 2 * CHANNEL_BINS)
    assert together.elements == 240


def test_moving_averages_are_those_of_torch():
    import torch
    from torch.ao.quantization.observer import MovingAverageMinMaxObserver

    random = np.random.default_rng(0)
    observer, result = MovingAverageMinMaxObserver(), TensorStatistics(False)
    for _ in range(30):
        sample = random.standard_normal(50).astype(np.float32)
        observer(torch.from_numpy(sample))
        result.observe(sample)
    assert result.average_lows[0] == pytest.approx(float(observer.min_val), rel=1e-5)
    assert result.average_highs[0] == pytest.approx(float(observer.max_val), rel=1e-5)
    assert result.histograms is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("histogram", [False, True])
def test_values_that_are_not_finite_show(bad, histogram):
    result = TensorStatistics(histogram)
    assert not result.finite, "no sample yet"
    result.observe(np.ones(3, np.float32))
    assert result.finite
    result.observe(np.array([1, bad, 2], np.float32))
    result.observe(np.ones(3, np.float32))
    assert not result.finite
    assert result.samples == 3


def test_extremes_are_exact_where_the_histogram_is_a_subset():
    array = np.zeros(5 * MAX_ELEMENTS, np.float32)
    array[12345], array[54321] = -3.5, 7.25  # both between the strides
    result = statistics(array)
    assert (result.low, result.high) == (-3.5, 7.25)
    assert MAX_ELEMENTS / 2 < result.histograms.counts.sum() <= MAX_ELEMENTS
    assert result.elements == array.size


@pytest.mark.parametrize("shape", [(1, 64, 112, 112), (1, 112, 112, 64), (1, 96, 96, 48), (1, 3, 320, 320)])
def test_a_subset_meets_all_channels_alike(shape):
    for axis in (1, 3):
        ids = np.arange(1, shape[axis] + 1, dtype=np.float32)
        array = np.broadcast_to(ids.reshape([-1 if at == axis else 1 for at in range(4)]), shape)
        counts = statistics(np.ascontiguousarray(array)).histograms.counts[0]
        counts = counts[counts > 0]
        assert len(counts) == shape[axis]
        assert counts.max() < 1.1 * counts.min() + 2


def test_a_view_with_its_axes_moved_is_not_copied():
    array = np.zeros((64, 64, 256), np.float32)  # 4 MiB
    result = statistics(array)
    tracemalloc.start()
    result.observe(array.transpose(2, 0, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes


def test_memory_does_not_grow_with_samples():
    def held(samples: int) -> int:
        random = np.random.default_rng(0)
        tracemalloc.start()
        result = TensorStatistics(True)
        for at in range(samples):
            result.observe(random.standard_normal(100).astype(np.float32) * np.float32(2.0**at if at < 60 else 1))
        assert result.histograms is not None, "reading takes in what waits"
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert result.samples == samples
        return used

    held(1000)  # Python keeps some small objects for later
    assert held(1000) < held(10) + 1000


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("size", [1, 300, 5000, 40_000])
def test_samples_give_the_same_together_as_one_by_one(size, axis):
    """Reading after each sample leaves nothing to wait for the next; 40,000 elements never wait."""
    random = np.random.default_rng(size)
    samples = [random.standard_normal((4, 3, size // 3 + 1)).astype(np.float32) * (1 + at % 7) for at in range(75)]
    samples[20] = samples[20][:, :, : size // 4 + 1]  # another shape
    samples[40][2, 1, 0] = np.nan
    samples[41][0, 2, 0] = np.inf
    together, alone = TensorStatistics(True, axis), TensorStatistics(True, axis)
    for sample in samples:
        reused = sample.copy()
        together.observe(reused)
        reused.fill(99)  # as runtimes do with their buffers
        alone.observe(sample)
        assert alone.histograms is not None
    for name in ("lows", "highs", "average_lows", "average_highs"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))
    np.testing.assert_array_equal(together.histograms.counts, alone.histograms.counts)
    np.testing.assert_array_equal(together.histograms.zeros, alone.histograms.zeros)
    assert (together.samples, together.elements) == (alone.samples, alone.elements)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 1, 0, 2)])
@pytest.mark.parametrize("places", [1, 30, 3000])
def test_a_batch_gives_what_its_samples_give(places, order, axis):
    """In any layout; those of 30 places wait, those of 3000 do not."""
    random = np.random.default_rng(places)
    together, alone = TensorStatistics(True, axis, most=700), TensorStatistics(True, axis, most=700)
    for at in range(20):
        samples = random.standard_normal((5, 4, places, 3)).astype(np.float32) * (1 + at % 7)
        samples[2, 1, 0, 0] = np.nan if at == 12 else 1
        laid_out = np.ascontiguousarray(samples.transpose(order)).transpose(np.argsort(order))
        assert laid_out.shape == samples.shape
        together.observe_batch(laid_out)
        for index in range(5):
            alone.observe(laid_out[index : index + 1])
    for name in ("lows", "highs", "average_lows", "average_highs"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))
    np.testing.assert_array_equal(together.histograms.counts, alone.histograms.counts)
    assert (together.samples, together.elements) == (alone.samples, alone.elements) == (100, 1200 * places)


def test_a_batch_of_nothing_and_one_that_repeats_a_sample():
    result = TensorStatistics(True)
    result.observe_batch(np.zeros((4, 0), np.float32))
    assert result.samples == 0
    result.observe_batch(np.broadcast_to(np.float32([1, 2, -3]), (50, 3)))
    assert (result.samples, result.elements, result.low, result.high) == (50, 150, -3, 2)
    assert result.histograms.counts.sum() == 150


def test_many_samples_are_counted_in_smaller_parts():
    assert [elements_of_each(count) for count in (0, 1, 16, 64, 10_000)] == [65536, 65536, 65536, 16384, 4096]
    few = TensorStatistics(True, most=4096)
    few.observe(np.arange(30_000, dtype=np.float32))
    assert few.histograms is not None
    assert 2048 < few.histograms.counts.sum() <= 4096
    assert (few.low, few.high, few.elements) == (0, 29_999, 30_000)


def test_a_channel_that_is_not_finite_does_not_stop_the_averages_of_others():
    both, alone = TensorStatistics(False, 0), TensorStatistics(False)
    for at in range(40):
        both.observe(np.array([[-np.inf, 0], [-at, at + 1]], np.float32))
        alone.observe(np.array([-at, at + 1], np.float32))
    one = both.channel(1)
    assert (one.low, one.high, one.samples, one.elements) == (alone.low, alone.high, alone.samples, alone.elements)
    assert (one.average_lows, one.average_highs) == (alone.average_lows, alone.average_highs)
    assert one.finite
    assert not both.channel(0).finite


def test_a_scalar_is_a_sample_and_an_empty_tensor_is_none():
    result = statistics(np.array(2.0), np.zeros((0, 4), np.float32))
    assert (result.samples, result.elements, result.low, result.high) == (1, 1, 2.0, 2.0)


def test_channels_that_change_in_number_are_refused():
    with pytest.raises(UnsupportedError, match="length 4 in one sample and 3 in another"):
        statistics(np.zeros((2, 3)), np.zeros((2, 4)), channel_axis=1)
