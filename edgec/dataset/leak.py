"""Calibration and evaluation data must not share samples."""

from __future__ import annotations

from edgec.dataset.spool import Spool, copy_samples, replaced
from edgec.errors import DataLeakError, LabelsError, StorageError

STRAY_SHARE = 0.01
"""Public data sets hold stray duplicates. Up to this share of the calibration samples is left out, and noted."""


def check_classes(calibration: Spool, evaluation: Spool) -> None:
    """Refuse two sets that number their classes differently.

    Raises:
        LabelsError: both have named classes, and not the same ones.
    """
    one, other = calibration.info.classes, evaluation.info.classes
    if one and other and one != other:
        odd = ", ".join(sorted(set(one) ^ set(other)))
        raise LabelsError(
            f"the classes differ from those of {calibration.info.origin}, and so do their numbers: {odd}",
            where=evaluation.info.origin,
            hint="labels are the places of class folders in sorted order: give both sets the same folders "
            "(one may be empty), or state labels",
        )


def check_disjoint(calibration: Spool, evaluation: Spool, what: str = "calibration") -> Spool:
    """The calibration (or training) samples that are not in the evaluation data, by digests of what the model sees.

    Args:
        calibration: the set to check.
        evaluation: the held-out set.
        what: name of the first set in messages.

    Returns:
        `calibration` itself when nothing is shared. When a few samples are (see `STRAY_SHARE`), a spool without
        them, beside it, whose notes say so.

    Raises:
        DataLeakError: more is shared.
        StorageError: the disk is full or refuses the write.
    """
    held_out: dict[bytes, int] = {}
    for index, digest in enumerate(evaluation.sample_digests()):
        held_out.setdefault(digest, index)
    shared = {index: held_out[item] for index, item in enumerate(calibration.sample_digests()) if item in held_out}
    if not shared:
        return calibration
    mine, theirs = calibration.source_indices(), evaluation.source_indices()
    places = sorted((int(mine[first]), int(theirs[second])) for first, second in shared.items())
    listed = ", ".join(f"{first} = {second}" for first, second in places[:3]) + (", ..." if len(places) > 3 else "")
    count = len(mine)
    overlap = (
        f"{len(shared)} of {count} {what} samples are also in the evaluation data "
        f"({what} index = evaluation index: {listed})"
    )
    if len(shared) > STRAY_SHARE * count:
        raise DataLeakError(
            overlap,
            where=f"{calibration.info.origin}, {evaluation.info.origin}",
            hint="calibrate and train on training data, and evaluate on samples that were held out",
        )
    return _without(calibration, set(shared), f"{overlap}; they were left out of {what}")


def _without(spool: Spool, dropped: set[int], note: str) -> Spool:
    group = spool.info.group
    kept = [run for run in range(len(spool)) if dropped.isdisjoint(range(run * group, (run + 1) * group))]
    folder = spool.folder.with_name(f"{spool.folder.name}-disjoint")
    try:
        with replaced(folder) as partial:
            first_sample = spool.info.first_sample if 0 in kept else ()
            order, notes = [(0, run) for run in kept], (*spool.info.notes, note)
            copy_samples([spool], order, partial, notes=notes, first_sample=first_sample)
    except OSError as exc:
        raise StorageError(f"cannot write the calibration samples: {exc.strerror or exc}", where=str(folder)) from exc
    return Spool(folder)
