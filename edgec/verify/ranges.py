"""How samples lie in the ranges that an artifact was calibrated for.

A sample *leaves* a range when a larger share of the tensor's values lies outside than in 99 of 100 evaluation samples:
for most tensors that is any value at all; for those that a calibration method clips, or that saturate by design (a
clamp, a sigmoid), it is more than usual. Limits come from one half of the evaluation samples and their own share from
the other, so it is what further samples of the same kind show.

Samples of another kind may stay within all ranges (an inverted picture does). What then moves is the *level* of
activations, their mean: it is kept with its spread over the evaluation samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgec.backends.interface import ActivationRange, Artifact, RangeWatch, RangeWatcher
from edgec.backends.ranges import use_by_values
from edgec.backends.registry import get_backend
from edgec.dataset.spool import Spool
from edgec.frozen import Frozen
from edgec.model.spec import Array, Tensors
from edgec.verify.outputs import chunks
from edgec.verify.requests import RangesAnswer, RangesRequest
from edgec.workers.worker import Progress

MOST_SAMPLES = 256
"""Samples that are observed when a bundle is built, at most."""
MOST_VALUES = 2**30
"""Input values that are observed then: of large inputs fewer samples, but `LEAST_SAMPLES`."""
LEAST_SAMPLES = 32
USUAL = 0.99
"""Share of evaluation samples that do not leave a range."""
_WORK = 50
"""Activations that a network has for one input value, about."""
_DIGITS = 6


class LayerRange(ActivationRange):
    """A calibrated range, and how evaluation samples lie in it."""

    limit: float
    """Share of values outside that `USUAL` of the evaluation samples stay within."""
    outside: float
    """Share of evaluation samples that leave it."""
    level: float
    """Mean over the evaluation samples of the tensor's mean value, as a place in the range: 0 is `low`, 1 `high`."""
    spread: float
    """Standard deviation of that from sample to sample."""


class RangeRecord(Frozen):
    """All ranges of an artifact, on its bundle's evaluation samples."""

    runtime: str
    """Where activations were observed; empty: only inputs were."""
    samples: int
    layers: tuple[LayerRange, ...]
    outside: float
    """Share of evaluation samples that leave at least one range."""
    reason: str = ""
    """Why activations were not observed; `layers` are then the model's inputs, or none."""


def observe_ranges(request: RangesRequest, progress: Progress) -> RangesAnswer:
    """Run an int8 artifact and observe its activations (a task of `edgec.workers.worker`).

    Args:
        request: what to run, and where the observations go.
        progress: called with the name of each step.

    Raises:
        UnsupportedError: the runtime refuses the artifact, or does not show its activations.
    """
    backend = get_backend(request.artifact.backend)
    if reason := why_not(request.artifact):
        return RangesAnswer(reason=reason)
    assert isinstance(backend, RangeWatcher)
    progress(f"observe the activations of {len(request.indices)} samples in {request.runtime}")
    watch = backend.watch_ranges(request.artifact, request.file, request.runtime, request.threads)
    np.save(request.out, uses(watch, Spool(request.spool), request.indices))
    return RangesAnswer(ranges=tuple(watch.ranges))


def why_not(artifact: Artifact) -> str:
    """Why an artifact has no calibrated ranges that can be observed; empty: it has."""
    if artifact.precision != "int8":
        return f"a {artifact.precision} artifact has no calibrated ranges"
    if not isinstance(get_backend(artifact.backend), RangeWatcher):
        return f"backend {artifact.backend} cannot show the activations of its artifacts"
    return ""


def uses(watch: RangeWatch, samples: Sequence[Tensors], indices: Sequence[int]) -> Array:
    """What `watch` observes of some samples.

    Args:
        watch: the loaded artifact.
        samples: in the float model's names and layout.
        indices: of those to run.

    Returns:
        (samples, ranges, 2), as of `RangeWatch`.
    """
    observed = np.zeros((len(indices), len(watch.ranges), 2), np.float64)
    for place, index in enumerate(indices):
        observed[place] = watch(samples[index])
    return observed


def observed_indices(spool: Spool, most: int = MOST_SAMPLES) -> list[int]:
    """Indices of the samples of a spool that are observed, evenly spread, the same each time; fewer of large ones."""
    values = sum(int(np.prod(item.shape, dtype=np.int64)) for item in spool.info.inputs) * _WORK
    count = min(len(spool), most, max(MOST_VALUES // max(values, 1), LEAST_SAMPLES))
    return [index * len(spool) // count for index in range(count)]


def input_ranges(spool: Spool) -> tuple[ActivationRange, ...]:
    """The extremes of each input over all samples; without inputs of booleans."""
    ranges = []
    for place, item in enumerate(spool.info.inputs):
        array: Array = np.load(spool.folder / f"{place}.npy", mmap_mode="r")
        if array.dtype.kind == "b" or not array.size:
            continue
        low = min(float(np.min(array[part])) for part in chunks(array))
        high = max(float(np.max(array[part])) for part in chunks(array))
        ranges.append(ActivationRange(tensor=f"input {item.name}", low=low, high=high, input=item.name))
    return tuple(ranges)


def input_uses(ranges: Sequence[ActivationRange], spool: Spool, indices: Sequence[int]) -> Array:
    """How the inputs of some samples lie in ranges of inputs.

    Args:
        ranges: of inputs.
        spool: the samples.
        indices: of those to read.

    Returns:
        (samples, ranges, 2), as of `uses`.
    """
    shares = np.zeros((len(indices), len(ranges), 2), np.float64)
    for place, index in enumerate(indices if ranges else ()):
        sample = spool[index]
        shares[place] = [use_by_values(sample[item.input], item.low, item.high) for item in ranges]
    return shares


def range_record(ranges: Sequence[ActivationRange], observed: Array, *, runtime: str, reason: str = "") -> RangeRecord:
    """The record of a bundle, from what its evaluation samples show.

    Args:
        ranges: of the artifact, and of inputs.
        observed: (samples, ranges, 2), as of `uses`.
        runtime: where activations were observed.
        reason: why they were not.
    """
    outside, levels = np.round(observed[:, :, 0], _DIGITS), observed[:, :, 1]
    even, odd = outside[::2], outside[1::2] if len(outside) > 1 else outside
    limits = np.zeros(len(ranges))
    if observed.size:
        limits = np.quantile(even, USUAL, axis=0, method="higher")
    left = odd > limits
    return RangeRecord(
        runtime=runtime,
        samples=len(observed),
        layers=tuple(
            LayerRange(
                **item.model_dump(),
                limit=float(limit),
                outside=round(float(left[:, place].mean()), _DIGITS),
                level=round(float(levels[:, place].mean()), _DIGITS),
                spread=round(float(levels[:, place].std()), _DIGITS),
            )
            for place, (item, limit) in enumerate(zip(ranges, limits, strict=True))
        ),
        outside=round(float(left.any(axis=1).mean()), _DIGITS) if observed.size else 0.0,
        reason=reason,
    )


def leaving(record: RangeRecord, observed: Array) -> Array:
    """Which samples leave which range: booleans (samples, layers of `record`).

    Args:
        record: of the artifact.
        observed: (samples, layers, 2), as of `uses`.
    """
    limits = np.array([item.limit for item in record.layers])
    left: Array = np.round(observed[:, :, 0], _DIGITS) > limits
    return left


def unwatched_inputs(
    inputs: Sequence[ActivationRange], watched: Sequence[ActivationRange]
) -> tuple[ActivationRange, ...]:
    """Inputs that an artifact has no range of its own for."""
    known = {item.input for item in watched}
    return tuple(item for item in inputs if item.input not in known)
