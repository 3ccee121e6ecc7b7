"""Reader of Python entries: a function that returns arrays, or yields samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from edgec.dataset.entry import entry_errors
from edgec.dataset.sample_source import LabelledRow, ReadRequest, Row, SampleSource, check_counts, check_dtype
from edgec.errors import DatasetError
from edgec.model.spec import Array

FORMS = "return (x, y) or x as arrays, or an iterable of samples or of (sample, label)"


def read_python(request: ReadRequest, function: Callable[[], Any]) -> SampleSource:
    """Samples from the user's function.

    It returns arrays ``x`` or ``(x, y)`` with one row a sample (x may be a dict by input name; y None), or an
    iterable of samples or of pairs ``(sample, label)``, a sample being an array or a dict by input name. It is
    called once for every pass over the samples, with the same random seed, and must end.
    """
    place = request.spec.data
    file = place.rpartition(":")[0]
    with entry_errors(DatasetError, file):
        first = function()
    arrays = _as_arrays(first)
    if arrays is not None:
        return _from_arrays(request, *arrays)
    if not _iterable(first):
        raise DatasetError(f"returned {type(first).__name__}", where=place, hint=FORMS)
    fresh = [first]

    def rows() -> Iterator[LabelledRow]:
        with entry_errors(DatasetError, file):
            for item in fresh.pop() if fresh else function():
                yield _labelled(request, item)

    return SampleSource(rows, ready=True)


def _iterable(value: Any) -> bool:
    return isinstance(value, Iterable) or (hasattr(value, "__getitem__") and hasattr(value, "__len__"))


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value: Any) -> Array:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _as_arrays(value: Any) -> tuple[Any, Any] | None:
    """(x, y) when the function returned whole arrays; None when it is an iterable of samples."""
    pair = isinstance(value, tuple) and len(value) == 2
    x, y = value if pair else (value, None)
    whole = _is_array(x) or (isinstance(x, Mapping) and bool(x) and all(_is_array(item) for item in x.values()))
    return (x, y) if whole and (y is None or _is_array(y) or isinstance(y, list)) else None


def _from_arrays(request: ReadRequest, x: Any, y: Any) -> SampleSource:
    place = request.spec.data
    arrays = {name: _array(item) for name, item in _by_name(request, x).items()}
    for name, array in arrays.items():
        check_dtype(name, array.dtype, request.path)
        if not array.ndim:
            raise DatasetError(f'array "{name}" has no sample axis', where=place)
    counts = {name: len(array) for name, array in arrays.items()}
    labels = None if y is None else _array(y)
    if labels is not None:
        check_dtype("labels", labels.dtype, request.path)
        counts["labels"] = len(labels) if labels.ndim else 0
    total = check_counts(counts, place)

    def rows() -> Iterator[LabelledRow]:
        for index in range(total):
            yield {name: array[index] for name, array in arrays.items()}, None

    return SampleSource(rows, total, labels, ready=True)


def _labelled(request: ReadRequest, item: Any) -> LabelledRow:
    pair = isinstance(item, (tuple, list)) and len(item) == 2 and not np.isscalar(item[0])
    sample, label = item if pair else (item, None)
    return {name: _array(part) for name, part in _by_name(request, sample).items()}, (
        None if label is None else _array(label)
    )


def _by_name(request: ReadRequest, sample: Any) -> Row:
    if not isinstance(sample, Mapping):
        return {request.only_input("an array from a Python entry").name: sample}
    known = {item.name for item in request.inputs}
    if set(sample) != known:
        raise DatasetError(
            f"sample has inputs {', '.join(sorted(map(str, sample)))}; the model has {', '.join(sorted(known))}",
            where=request.spec.data,
        )
    return sample
