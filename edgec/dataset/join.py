"""Several sets of samples as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgec.dataset.spool import Spool, copy_samples
from edgec.errors import DatasetError, StorageError


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
    if odd := [item for item in others if item.info.group != first.info.group]:
        what = f"its entries are not of the form that those of {first.info.origin} have"
        hint = "give samples one by one in both, or in the full shape that the model takes"
        raise DatasetError(what, where=odd[0].info.origin, hint=hint)
    try:
        folder.mkdir(parents=True)
        copy_samples(
            sets,
            _spread(sets),
            folder,
            notes=(
                *first.info.notes,
                *(note for item in others for note in item.info.notes),
                *(f"{item.info.samples} further samples of {Path(item.info.origin).name}" for item in others),
            ),
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
