"""Several sets of samples as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgec.dataset.spool import Spool, write_index
from edgec.errors import DatasetError, StorageError
from edgec.model.spec import Array


def join(first: Spool, others: Sequence[Spool], folder: Path) -> Spool:
    """All samples of `first` and of `others`, in a new spool.

    The others are spread evenly among those of `first`: observers may weigh what comes last. Labels are kept when all
    sets have them; names of classes are those of `first`.

    Args:
        first: the set that names origin and classes.
        others: for the same inputs; may be empty, then `first` is returned.
        folder: the spool to make.

    Raises:
        DatasetError: one set gives samples one by one, and another as whole runs of the model.
        StorageError: the disk is full or refuses the write.
    """
    if not others:
        return first
    sets = (first, *others)
    group = first.info.group
    if odd := [item for item in others if item.info.group != group]:
        what = f"its entries are not of the form that those of {first.info.origin} have"
        hint = "give samples one by one in both, or in the full shape that the model takes"
        raise DatasetError(what, where=odd[0].info.origin, hint=hint)
    order = _spread(sets)
    try:
        folder.mkdir(parents=True)
        for place, item in enumerate(first.info.inputs):
            array = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                folder / f"{place}.npy", "w+", np.dtype(item.dtype), (len(order), *item.shape)
            )
            for row, (number, index) in enumerate(order):
                array[row] = sets[number][index][item.name]
            array.flush()
        digests = [item.sample_digests() for item in sets]
        indices = [item.source_indices() for item in sets]
        entries = [(number, index * group + entry) for number, index in order for entry in range(group)]
        write_index(
            folder,
            first.info.inputs,
            digests=[digests[number][entry] for number, entry in entries],
            indices=[int(indices[number][entry]) for number, entry in entries],
            labels=_labels(sets, entries),
            origin=first.info.origin,
            notes=(
                *first.info.notes,
                *(note for item in others for note in item.info.notes),
                *(f"{item.info.samples} further samples of {Path(item.info.origin).name}" for item in others),
            ),
            classes=first.info.classes,
            group=group,
            first_sample=first.info.first_sample,
        )
    except OSError as exc:
        raise StorageError(f"cannot write the samples: {exc.strerror or exc}", where=str(folder)) from exc
    return Spool(folder)


def _spread(sets: Sequence[Spool]) -> list[tuple[int, int]]:
    """(set, sample) in an order that has each set spread evenly over the whole."""
    places = [
        ((index + 0.5) / len(item), number, index) for number, item in enumerate(sets) for index in range(len(item))
    ]
    return [(number, index) for _, number, index in sorted(places)]


def _labels(sets: Sequence[Spool], entries: Sequence[tuple[int, int]]) -> Array | None:
    labels = [item.labels for item in sets]
    known = [item for item in labels if item is not None]
    if len(known) != len(sets) or len({item.shape[1:] for item in known}) > 1:
        return None
    stacked: Array = np.stack([known[number][entry] for number, entry in entries])
    return stacked
