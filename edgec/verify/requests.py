"""What worker tasks on finished artifacts are asked and answer: both sides import these records."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgec.backends.interface import ActivationRange, Artifact, OpDifference, OpRecord
from edgec.frozen import Frozen
from edgec.verify.records import Latency, Speed


class ArtifactFile(Frozen):
    """An artifact and its file."""

    artifact: Artifact
    file: Path


class RunRequest(ArtifactFile):
    """Run an artifact over all samples: of `edgec.verify.run.run_artifact`."""

    runtime: str
    spool: Path
    """Folder of the samples."""
    out: Path
    """Folder for the outputs."""
    threads: int


class RunAnswer(Frozen):
    """What an artifact computed, or why it could not."""

    outputs: dict[str, str] = Field(default_factory=dict)
    """Output name -> .npy of shape (samples, *output shape)."""
    ops: tuple[OpRecord, ...] = ()
    """In execution order."""
    failure: str = ""
    """Why the runtime cannot run the artifact; empty: it can."""


class DifferenceRequest(ArtifactFile):
    """Compare two runtimes of an artifact op by op: of `edgec.verify.run.first_difference`."""

    right: str
    """The runtime whose values are taken for right."""
    wrong: str
    spool: Path
    """Folder of the samples."""
    threads: int


class DifferenceAnswer(Frozen):
    """Where two runtimes begin to compute different values."""

    op: OpDifference | None
    """None where the backend cannot name it."""


class TimingRequest(Frozen):
    """Time an artifact, beside its float twin where it has one: of `edgec.verify.speed.time_artifacts`."""

    artifacts: tuple[ArtifactFile, ...]
    """One or two; the twin is the second."""
    runtime: str
    spool: Path
    """Folder of samples; the first one is run."""
    threads: int
    warmup: int
    """Runs that are not counted."""
    runs: int
    """Counted runs; 0: nothing is timed."""


class TimingAnswer(Frozen):
    """Batch-1 times."""

    latency: Latency | None = None
    """None: not timed."""
    speed: Speed | None = None
    """None: the artifact was timed alone."""


class RangesRequest(ArtifactFile):
    """Observe the activations of an int8 artifact: of `edgec.verify.ranges.observe_ranges`."""

    runtime: str
    spool: Path
    """Folder of the samples."""
    indices: tuple[int, ...]
    """Of the samples to run."""
    threads: int
    out: Path
    """The .npy to write: (samples, ranges, 2), as of `edgec.backends.interface.RangeWatch`."""


class RangesAnswer(Frozen):
    """The calibrated ranges that were observed."""

    ranges: tuple[ActivationRange, ...] = ()
    """In the order of the file's second axis."""
    reason: str = ""
    """Why activations cannot be observed; empty: they can."""
