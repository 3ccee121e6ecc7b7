"""One pass over a set of samples, as far as time allows: each is made model input, and may fail alone."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from edgec.check.small_sets import Extremes
from edgec.dataset.balance import choose
from edgec.dataset.group import grouping_of
from edgec.dataset.preprocess import to_input
from edgec.dataset.sample_source import Row, SampleSource
from edgec.errors import DatasetError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import Preprocess

_KEPT_BYTES = 64 * 2**20
"""Samples that are kept to run the model on take no more."""
_KEPT = 512
_NUMBERS = re.compile(r"\d[\d.]*")


@dataclass
class Failure:
    """A problem that one or more samples have."""

    error: DatasetError
    place: str
    """Of the first."""
    drawn: bool
    """Whether a build would use one of them."""
    count: int = 1


@dataclass
class Looked:
    """What a pass has shown.

    Attributes:
        origin: the data source, in the user's words.
        count: samples that are there; None while not all were read and the source does not say.
        expected: samples that a build draws, where the source says how many there are.
        read: samples that were looked at.
        digests: one each, of the samples that are model input.
        places: the index in the source of each.
        labels: of the source, or of the samples that were read.
        used_labels: of the samples that a build would use, as far as known.
        classes: names of the classes.
        same: inputs that are equal in all samples used.
        extremes: of each float input, over the samples used.
        failures: what is wrong with samples, alike ones together.
        kept: some samples with their labels, for the model to be run on.
        group: entries in one run of the model.
    """

    origin: str
    count: int | None = None
    expected: int | None = None
    read: int = 0
    digests: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    labels: Array | None = None
    used_labels: Array | None = None
    classes: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    extremes: Extremes = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    kept: list[tuple[dict[str, Array], Array | None]] = field(default_factory=list)
    group: int = 1

    @property
    def used(self) -> int | None:
        """Samples that a build would use; None while that is not known."""
        return len(self.digests) if self.complete else self.expected

    @property
    def complete(self) -> bool:
        """Whether all samples were looked at."""
        return self.count is not None and self.read >= self.count


def look(
    source: SampleSource,
    inputs: tuple[TensorSpec, ...],
    preprocess: Preprocess,
    origin: str,
    *,
    samples: int | None,
    seed: int,
    seconds: float,
) -> Looked:
    """Go through a set until it ends, or the time does.

    Args:
        source: the set.
        inputs: what the model takes.
        preprocess: from stored samples to model input.
        origin: the data source, in the user's words.
        samples: how many a build would draw; None: all.
        seed: of that choice.
        seconds: after which no further sample is read.

    Raises:
        DatasetError: reading ended at a sample; what was seen before is lost with it.
    """
    deadline = time.monotonic() + seconds
    found = Looked(origin, source.count, source.count, labels=source.labels, classes=source.classes)
    wanted = None
    if samples is not None and source.count is not None:
        found.expected = min(samples, source.count)
        wanted = {int(index) for index in choose(source.count, source.labels, samples, seed)}
    likeness, labels = _Likeness(), list[Array | None]()
    for index, (row, label) in enumerate(_rows(source, inputs, found)):
        if time.monotonic() > deadline and index:
            break
        found.read += 1
        labels.append(label)
        drawn = wanted is None or index in wanted
        try:
            arrays = _converted(row, inputs, preprocess, source, found.group)
        except DatasetError as error:
            _add_failure(found, error, source.place(index), drawn=drawn)
            continue
        if not drawn:
            continue
        own = source.labels[index] if source.labels is not None else label
        likeness.add(arrays)
        found.digests.append(_digest(arrays, inputs))
        found.places.append(index)
        if sum(array.nbytes for array in arrays.values()) * (len(found.kept) + 1) <= _KEPT_BYTES:
            found.kept += [(arrays, own)] if len(found.kept) < _KEPT else []
    else:
        found.count = found.read
    found.same, found.extremes = likeness.same, likeness.extremes
    if source.labels is None and labels and all(label is not None for label in labels):
        found.labels = _stacked([label for label in labels if label is not None])
    found.used_labels = found.labels
    if wanted is not None and found.labels is not None:
        found.used_labels = found.labels[sorted(index for index in wanted if index < len(found.labels))]
    return found


def _rows(source: SampleSource, inputs: tuple[TensorSpec, ...], found: Looked) -> Iterator[tuple[Row, Array | None]]:
    rows = iter(source.rows())
    first = next(rows, None)
    if first is None:
        found.count = 0
        return
    found.group = grouping_of(first[0], inputs, found.origin).size
    yield from chain([first], rows)


def _converted(
    row: Row, inputs: Sequence[TensorSpec], preprocess: Preprocess, source: SampleSource, group: int
) -> dict[str, Array]:
    arrays = {}
    for item in inputs:
        entry = item if group == 1 else item.model_copy(update={"shape": (1, *item.shape[1:])})
        arrays[item.name] = np.ascontiguousarray(to_input(row[item.name], entry, preprocess, ready=source.ready))
    return arrays


def _add_failure(found: Looked, error: DatasetError, place: str, *, drawn: bool) -> None:
    key = _NUMBERS.sub("#", error.what)
    if key in found.failures:
        found.failures[key].count += 1
        found.failures[key].drawn |= drawn
    else:
        found.failures[key] = Failure(error, place, drawn)


def _digest(arrays: Mapping[str, Array], inputs: Sequence[TensorSpec]) -> bytes:
    hashed = hashlib.sha256()
    for item in inputs:
        hashed.update(arrays[item.name].data)
    return hashed.digest()


def _stacked(labels: Sequence[Array]) -> Array | None:
    try:
        stacked: Array = np.stack([np.asarray(label) for label in labels])
    except ValueError:
        return None
    return stacked.reshape(-1) if stacked.ndim > 1 and stacked.size == len(stacked) else stacked


class _Likeness:
    """Which inputs are equal in all samples, and the extremes of each."""

    def __init__(self) -> None:
        self._first: dict[str, Array] = {}
        self._same: set[str] = set()
        self._count = 0
        self.extremes: dict[str, tuple[float, float]] = {}

    def add(self, arrays: Mapping[str, Array]) -> None:
        """Take another sample into account."""
        self._count += 1
        if self._count == 1:
            self._first, self._same = dict(arrays), set(arrays)
        self._same = {name for name in self._same if np.array_equal(arrays[name], self._first[name])}
        for name, array in arrays.items():
            if array.size:
                low, high = self.extremes.get(name, (float(array.flat[0]),) * 2)
                self.extremes[name] = min(low, float(array.min())), max(high, float(array.max()))

    @property
    def same(self) -> tuple[str, ...]:
        """Inputs that are equal in all samples, of which there are at least two."""
        return tuple(sorted(self._same)) if self._count > 1 else ()
