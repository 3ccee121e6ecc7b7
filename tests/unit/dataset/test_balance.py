"""The choice of samples is balanced, without repetition, and the same for the same seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.dataset.balance import choose, class_labels


@given(st.lists(st.integers(-2, 4), min_size=1, max_size=80), st.integers(1, 90), st.integers(0, 2**40))
def test_every_prefix_is_balanced(labels, samples, seed):
    classes = np.array(labels)
    chosen = choose(len(labels), classes, samples, seed)
    assert len(chosen) == min(samples, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.array_equal(chosen, choose(len(labels), classes, samples, seed))
    available = {name: labels.count(name) for name in set(labels)}
    for length in range(1, len(chosen) + 1):
        counts = {name: int(np.sum(classes[chosen[:length]] == name)) for name in available}
        most = max(counts.values())
        assert all(counts[name] >= most - 1 or counts[name] == available[name] for name in available)


@given(st.integers(1, 200), st.integers(1, 250), st.integers(0, 99))
def test_without_labels_one_from_each_stretch(count, samples, seed):
    chosen = np.sort(choose(count, None, samples, seed))
    assert len(set(chosen.tolist())) == len(chosen) == min(samples, count)
    edges = np.linspace(0, count, len(chosen) + 1).astype(int)
    assert np.all(chosen >= edges[:-1])
    assert np.all(chosen < edges[1:])


def test_another_seed_chooses_others():
    labels = np.arange(1000) % 10
    assert not np.array_equal(choose(1000, labels, 50, 0), choose(1000, labels, 50, 1))


def test_only_one_integer_a_sample_is_a_class():
    assert class_labels(np.array([0.5, 1, 2])) is None
    assert class_labels(np.array([np.nan, 1, 2])) is None
    assert class_labels(np.array([0.0, 2, 1])).tolist() == [0, 2, 1]  # as pandas and many loaders save them
    assert class_labels(np.zeros((3, 4), int)) is None
    assert class_labels(np.zeros((3, 1), np.uint8)).shape == (3,)
