"""Whether samples lie in the ranges that an artifact was calibrated for, as far as its bundle's evaluation set does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgec.dataset.spool import Spool
from edgec.errors import CONCERNS_ALL, EdgecError
from edgec.model.spec import Array
from edgec.validate.quality import share
from edgec.validate.records import Drift, LayerDrift, Share
from edgec.validate.sides import Runnable, Side
from edgec.verify.ranges import RangeRecord, input_uses, leaving, observed_indices
from edgec.verify.requests import RangesAnswer, RangesRequest
from edgec.verify.run import imports_of
from edgec.workers.worker import Progress, call

MOST_SAMPLES = 1024
"""Samples whose activations are looked at, evenly spread."""


LEAST_SPREAD = 1e-3
"""Of a tensor whose level hardly differs from sample to sample, a quarter of a step of 8 bits."""
CHANCE = 3.0
"""Standard errors of the difference of two means that count as chance: of tens of layers the largest is looked at."""


@dataclass(frozen=True)
class Observed:
    """What was seen of one artifact.

    Attributes:
        drift: the record.
        indices: samples of the spool that were looked at.
        shares: (samples, layers), the share of values outside; of ranges that a sample does not leave 0.
    """

    drift: Drift
    indices: tuple[int, ...] = ()
    shares: Array | None = None

    def layers_left(self, samples: int) -> Array | None:
        """How many ranges each of `samples` runs leaves; -1 where that was not looked at."""
        if self.shares is None:
            return None
        found = np.full(samples, -1, np.int64)
        found[list(self.indices)] = (self.shares > 0).sum(axis=1)
        return found


def observe(
    side: Side, runnable: Runnable, spool: Spool, scratch: Path, log: Path, threads: int, progress: Progress
) -> Observed:
    """Look at the activations of one artifact.

    Args:
        side: its bundle.
        runnable: the artifact.
        spool: the new samples.
        scratch: private folder of this artifact; exists.
        log: receives what its process prints.
        threads: CPU threads of its runtime.
        progress: told each step.

    Raises:
        StorageError: there is no room for what is seen.
    """
    file, record = runnable.artifact.file, runnable.ranges

    def unknown(reason: str) -> Observed:
        return Observed(
            Drift(bundle=side.name, artifact=file, runtime="", samples=0, outside=None, evaluation=None, reason=reason)
        )

    if record is None:
        return unknown("the bundle does not tell its ranges: an earlier edgec built it")
    if not record.layers:
        return unknown(record.reason or "the bundle has no ranges of it")
    indices = observed_indices(spool, MOST_SAMPLES)
    try:
        found = _shares(runnable, record, spool, indices, scratch, log, threads, progress)
    except EdgecError as error:
        if isinstance(error, CONCERNS_ALL):
            raise
        return unknown(error.what)
    if found.shape[1] != len(record.layers):
        return unknown("this edgec sees other activations in it than the one that built it")
    left = leaving(record, found)
    return Observed(
        _drift(side, file, record, left, found[:, :, 1]), tuple(indices), np.where(left, found[:, :, 0], 0.0)
    )


def _shares(
    runnable: Runnable,
    record: RangeRecord,
    spool: Spool,
    indices: list[int],
    scratch: Path,
    log: Path,
    threads: int,
    progress: Progress,
) -> Array:
    if not record.runtime:
        return input_uses(record.layers, spool, indices)
    artifact, out = runnable.artifact, scratch / "ranges.npy"
    watched = call(
        "edgec.verify.ranges:observe_ranges",
        RangesRequest(
            artifact=artifact,
            file=runnable.file,
            runtime=record.runtime,
            spool=spool.folder,
            indices=tuple(indices),
            threads=threads,
            out=out,
        ),
        RangesAnswer,
        log=log,
        what=f"{artifact.file} in {record.runtime}",
        threads=threads,
        imports=imports_of(artifact),
        on_progress=lambda step: progress(f"{artifact.file}: {step}"),
    ).value.ranges
    inputs = record.layers[len(watched) :]
    same = [item.tensor for item in watched] == [item.tensor for item in record.layers[: len(watched)]]
    if not same or not all(item.input for item in inputs):
        return np.zeros((len(indices), 0, 2))
    both: Array = np.concatenate([np.load(out), input_uses(inputs, spool, indices)], axis=1)
    return both


def _drift(side: Side, file: str, record: RangeRecord, left: Array, levels: Array) -> Drift:
    count = len(left)
    return Drift(
        bundle=side.name,
        artifact=file,
        runtime=record.runtime,
        samples=count,
        outside=share(int(left.any(axis=1).sum()), count),
        evaluation=_evaluation(record, record.outside),
        layers=tuple(
            LayerDrift(
                tensor=item.tensor,
                low=item.low,
                high=item.high,
                input=item.input,
                outside=share(int(left[:, place].sum()), count),
                evaluation=_evaluation(record, item.outside),
                shift=(shift := float(levels[:, place].mean() - item.level) / max(item.spread, LEAST_SPREAD)),
                certain=max(0.0, abs(shift) - CHANCE * math.sqrt(1 / count + 1 / max(record.samples, 1))),
            )
            for place, item in enumerate(record.layers)
        ),
        reason=record.reason,
    )


def _evaluation(record: RangeRecord, outside: float) -> Share:
    """The share of the evaluation set, which was measured on half of the samples that were looked at."""
    count = max(record.samples // 2, 1)
    return share(round(outside * count), count)
