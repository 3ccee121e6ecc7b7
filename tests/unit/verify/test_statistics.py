"""Intervals against SciPy, against their coverage, and as properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from edgec.verify.statistics import paired_means, paired_proportions, t_quantile_975, wilson


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 10, 39, 40, 100, 5000])
def test_t_quantile_is_scipys(degrees):
    assert t_quantile_975(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-5)


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case):
    successes, trials = case
    got = wilson(successes, trials)
    wanted = stats.binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert got.low == pytest.approx(wanted.low, abs=1e-9)
    assert got.high == pytest.approx(wanted.high, abs=1e-9)


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 4000))
def test_paired_interval_holds_the_estimate_and_mirrors(lost, won, ties):
    trials = lost + won + ties + 1
    interval = paired_proportions(lost, won, trials)
    assert -1 <= interval.low <= (lost - won) / trials <= interval.high <= 1
    mirrored = paired_proportions(won, lost, trials)
    assert mirrored.low == pytest.approx(-interval.high)


def test_paired_interval_by_hand():
    # b = 9, c = 3, n = 100: (9 - 3) / 102, and 1.96 sqrt(13 - 36 / 102) / 102
    interval = paired_proportions(9, 3, 100)
    half = 1.959964 * math.sqrt(13 - 36 / 102) / 102
    assert interval.low == pytest.approx(6 / 102 - half, abs=1e-6)
    assert interval.high == pytest.approx(6 / 102 + half, abs=1e-6)


def test_paired_interval_covers():
    rng = np.random.default_rng(0)
    true = 0.04 - 0.02
    hits = 0
    for lost, won, _ in rng.multinomial(400, [0.04, 0.02, 0.94], size=2000):
        interval = paired_proportions(int(lost), int(won), 400)
        hits += interval.low <= true <= interval.high
    assert 0.93 <= hits / 2000 <= 0.98


def test_t_interval_is_scipys():
    values = np.random.default_rng(2).normal(0.3, 2, 17)
    got = paired_means(values)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high), abs=1e-5)
    assert paired_means(values[:1]) is None


@pytest.mark.parametrize("call", [lambda: wilson(3, 2), lambda: wilson(0, 0), lambda: paired_proportions(2, 2, 3)])
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError, match="is no"):
        call()
