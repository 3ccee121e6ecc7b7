"""The check that calibration and evaluation data share no samples."""

from __future__ import annotations

from edgec.dataset.spool import Spool
from edgec.errors import DataLeakError


def check_disjoint(calibration: Spool, evaluation: Spool) -> None:
    """Compare the samples' digests.

    Raises:
        DataLeakError: at least one sample is in both sets, bit by bit as the model sees it.
    """
    held_out = {digest: index for index, digest in reversed(list(enumerate(evaluation.sample_digests())))}
    shared = [(index, held_out[item]) for index, item in enumerate(calibration.sample_digests()) if item in held_out]
    if not shared:
        return
    mine, theirs = calibration.source_indices(), evaluation.source_indices()
    places = sorted((int(mine[first]), int(theirs[second])) for first, second in shared)
    told = ", ".join(f"{first} = {second}" for first, second in places[:3])
    raise DataLeakError(
        f"{len(shared)} of {len(calibration)} calibration samples are also in the evaluation data "
        f"(calibration index = evaluation index: {told}{', ...' if len(places) > 3 else ''})",
        where=f"{calibration.info.origin}, {evaluation.info.origin}",
        hint="calibrate on training data, and evaluate on samples that were held out",
    )
