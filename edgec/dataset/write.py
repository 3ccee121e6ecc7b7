"""From the user's data to a spool: choose, preprocess, check and write, one sample at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np

from edgec.dataset.balance import choose, class_labels
from edgec.dataset.group import Grouping, grouping_of
from edgec.dataset.history import assumptions, history
from edgec.dataset.open_samples import open_samples
from edgec.dataset.preprocess import to_input
from edgec.dataset.sample_source import LabelledRow, Row, SampleSource
from edgec.dataset.spool import Spool, replaced, write_index
from edgec.errors import DatasetError, StorageError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import DataSpec, Preprocess

Purpose = Literal["calibration", "evaluation", "training"]


def write_spool(
    spec: DataSpec,
    preprocess: Preprocess,
    inputs: tuple[TensorSpec, ...],
    folder: Path,
    root: Path,
    *,
    samples: int | None,
    seed: int,
    what: Purpose,
) -> Spool:
    """Spool the samples that `spec` names into `folder`, which is there complete or not at all.

    Evaluation samples keep their order; all others are put in an order that mixes the classes, since
    some observers weigh what comes last.

    Args:
        spec: the data source.
        preprocess: from stored samples to model input.
        inputs: what the model takes.
        folder: the spool to make; replaced when it is there.
        root: folder that the paths in `spec` are relative to.
        samples: how many to use, balanced by class; None for all.
        seed: of the choice, and of a Python entry's random numbers.
        what: which set it is.

    Raises:
        DatasetError: the data is missing, empty, not finite, or does not fit the inputs.
        StorageError: the disk is full or refuses the write.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replaced(folder) as partial:
            extracted = partial.with_name("extracted")
            extracted.mkdir()
            with open_samples(spec, preprocess, inputs, root, extracted, seed=seed) as source:
                _write(source, spec, preprocess, inputs, partial, samples=samples, seed=seed, what=what)
    except OSError as exc:
        raise StorageError(
            f"cannot write the {what} samples: {exc.strerror or exc}", where=str(folder), hint="free some disk space"
        ) from exc
    return Spool(folder)


def _write(
    source: SampleSource,
    spec: DataSpec,
    preprocess: Preprocess,
    inputs: tuple[TensorSpec, ...],
    folder: Path,
    *,
    samples: int | None,
    seed: int,
    what: Purpose,
) -> None:
    slots, known_labels = _slots(source, samples, seed, what, spec.data)
    digests: dict[int, bytes] = {}
    indices: dict[int, int] = {}
    labels: dict[int, Array | None] = {}
    notes = list(source.notes)
    first_sample: tuple[str, ...] = ()
    rows = iter(source.rows())
    first = next(rows, None)
    if first is None:
        raise DatasetError(f"the {what} data is empty", where=spec.data)
    grouping = grouping_of(first[0], inputs, spec.data)
    with ExitStack() as stack:
        files = [
            stack.enter_context(_RowFile(folder / f"{k}.npy", item, grouping.size)) for k, item in enumerate(inputs)
        ]
        for index, (row, label) in enumerate(chain([first], rows)):
            if slots is not None and index not in slots:
                continue
            slot = index if slots is None else slots[index]
            arrays = _convert(row, grouping.entries, preprocess, source, index, spec.data)
            if not digests:
                notes += assumptions(row, grouping.entries, preprocess, source, index)
            if slot == 0:
                first_sample = tuple(history(row, grouping.entries, arrays, preprocess, source, index))
            for file, array in zip(files, arrays, strict=True):
                file.put(slot, array)
            digests[slot] = _digest(arrays)
            indices[slot] = index
            labels[slot] = known_labels[index] if known_labels is not None else label
            kept = labels[slot]
            if label is not None and kept is not None and not np.array_equal(label, kept):
                raise DatasetError(
                    f"gave {source.place(index)} another label in the second pass",
                    where=spec.data,
                    hint="it must give the same samples each time it is called: seed its random numbers",
                )
    if slots is not None and len(digests) != len(slots):
        raise DatasetError(
            f"gave {len(slots)} samples in the first pass and fewer in the second; it must give the same each time",
            where=spec.data,
        )
    notes += _grouping_notes(grouping, len(digests), what, spec.data)
    order = range(len(digests) - len(digests) % grouping.size)
    write_index(
        folder,
        inputs,
        digests=[digests[slot] for slot in order],
        indices=[indices[slot] for slot in order],
        labels=_stack_labels([labels[slot] for slot in order], spec.data),
        origin=spec.data,
        notes=tuple(notes),
        classes=source.classes,
        group=grouping.size,
        first_sample=first_sample,
    )


def _grouping_notes(grouping: Grouping, count: int, what: Purpose, origin: str) -> Iterator[str]:
    size = grouping.size
    if size == 1:
        return
    if count < size:
        raise DatasetError(f"the {what} data has {count} samples, and the model takes {size} at once", where=origin)
    yield f"{size} samples make a run, since the model's first axis is {size}; its outputs are split again"
    if count % size:
        yield f"the last {count % size} of {count} {what} samples are left out: they do not fill a run"


def _slots(
    source: SampleSource, samples: int | None, seed: int, what: Purpose, origin: str
) -> tuple[dict[int, int] | None, Array | None]:
    """SampleSource index -> place in the spool (None: all, in their order), and the labels known so far."""
    count, labels = source.count, source.labels
    if what == "evaluation" and (samples is None or (count is not None and count <= samples)):
        return None, labels
    if count is None:
        count, labels = _scan(source.rows(), origin)
    if count == 0:
        raise DatasetError(f"the {what} data is empty", where=origin)
    chosen = choose(count, labels, samples, seed)
    if what == "evaluation":
        chosen = np.sort(chosen)
    return {int(index): slot for slot, index in enumerate(chosen)}, labels


def _scan(rows: Iterator[LabelledRow], origin: str) -> tuple[int, Array | None]:
    """Number of samples, and their labels when those are class labels, by a pass that keeps no sample."""
    labels = [label for _, label in rows]
    if any(label is not None and np.size(label) != 1 for label in labels):
        return len(labels), None
    stacked = _stack_labels(labels, origin)
    return len(labels), stacked if class_labels(stacked) is not None else None


def _stack_labels(labels: list[Array | None], origin: str) -> Array | None:
    given = [label for label in labels if label is not None]
    if not given:
        return None
    if len(given) != len(labels):
        raise DatasetError(f"{len(labels) - len(given)} of {len(labels)} samples have no label", where=origin)
    try:
        stacked: Array = np.stack([np.asarray(label) for label in given])
    except ValueError:
        raise DatasetError("labels have different shapes", where=origin) from None
    if stacked.dtype.kind not in "biuf":
        raise DatasetError(f"labels have dtype {stacked.dtype}; expected numbers", where=origin)
    return stacked.reshape(-1) if stacked.ndim > 1 and stacked.size == len(stacked) else stacked


def _convert(
    row: Row, inputs: tuple[TensorSpec, ...], preprocess: Preprocess, source: SampleSource, index: int, origin: str
) -> list[Array]:
    try:
        if preprocess.color is not None and not source.is_image(index):
            raise DatasetError(
                f'[preprocess] color = "{preprocess.color}" is for image files, and this sample is an array',
                hint="leave the key out, and store the channels in the order that the model takes",
            )
        return [np.ascontiguousarray(to_input(row[item.name], item, preprocess, ready=source.ready)) for item in inputs]
    except DatasetError as error:
        place = source.place(index)
        where = place if place.startswith(("/", ".")) else f"{origin}: {place}"
        raise DatasetError(error.what, where=where, hint=error.hint) from None


def _digest(arrays: list[Array]) -> bytes:
    hashed = hashlib.sha256()
    for array in arrays:
        hashed.update(array.data)
    return hashed.digest()


class _RowFile:
    """An .npy of rows that are written in any order; their number is entered in its header when it is closed.

    Args:
        path: of the file.
        spec: of a sample of the spool.
        group: rows in such a sample.
    """

    def __init__(self, path: Path, spec: TensorSpec, group: int) -> None:
        self._spec = spec
        self._group = group
        self._rows = 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()
        self._start = self._file.tell()

    def _write_header(self) -> None:
        # numpy leaves room in the header for the first axis to grow to 20 digits
        header: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(self._spec.dtype)),  # type: ignore[no-untyped-call]
            "fortran_order": False,
            "shape": (self._rows // self._group, *self._spec.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[no-untyped-call]

    def put(self, slot: int, array: Array) -> None:
        self._file.seek(self._start + slot * array.nbytes)
        self._file.write(array.data if array.ndim else array.tobytes())
        self._rows = max(self._rows, slot + 1)

    def __enter__(self) -> _RowFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._file.seek(0, os.SEEK_SET)
                self._write_header()
                if self._file.tell() != self._start:
                    raise StorageError("the .npy header grew", where=self._file.name)
        finally:
            self._file.close()
