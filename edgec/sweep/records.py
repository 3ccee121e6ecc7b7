"""What a sweep found: points of accuracy, latency and size, and what could not be made."""

from __future__ import annotations

from edgec.frozen import Frozen
from edgec.machine import Machine
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.target.spec import Precision
from edgec.verify.records import MayBeInfinite, MetricResult

KIB = 1024


class Pace(Frozen):
    """Times of an artifact on one core, in turns with the unpruned float32 artifact of its format and runtime."""

    latency_ms: float
    """Median of one sample."""
    ratio: float
    """Over the float artifact's, median of all rounds; below 1 it is faster."""
    ratio_low: float
    """Lower bound of the 95 % confidence interval of `ratio`."""
    ratio_high: float
    """Its upper bound."""
    float_ms: float
    """Median of the float artifact, beside this one."""
    steady_ms: float
    """`ratio` times the median of `float_ms` over all artifacts that were timed beside the same one.

    What slows the machine for a while slows both of a pair, so that this compares better than `latency_ms` does.
    """


class Point(Frozen):
    """One artifact of one cell of a sweep."""

    target: str
    device: str
    prune: float
    """``[prune] amount``."""
    precision: Precision
    method: str
    """Calibration method; empty for precisions that calibrate no ranges."""
    artifact: str
    backend: str
    runtime: str
    """The first that is judged: it is timed in this one."""
    sha256: str
    size_bytes: int
    recipe: Recipe
    metric: MetricResult | None
    """Of the judged runtime with the largest drop; None when the metric is ``sqnr``."""
    agreement: float | None
    """Smallest of the judged runtimes."""
    sqnr_db: MayBeInfinite | None
    """Smallest of the judged runtimes."""
    pruned: str = ""
    """What pruning removed."""
    pace: Pace | None = None
    memory_mb: float | None = None
    """Largest resident set of a process that loads it and runs one sample, its runtime included."""
    coverage: tuple[Coverage, ...] = ()
    """What of it was not done as asked."""
    failure: str = ""
    """Why it is no choice: a judged runtime could not run it."""
    notes: tuple[str, ...] = ()
    """What was not measured, and why."""
    front: bool = False
    """Whether no other point of the device is at least as good in accuracy, latency and size, and better in one."""
    chosen: bool = False

    @property
    def accuracy(self) -> float | None:
        """The metric: a share from 0 to 1 where it is told in points, else on its own scale."""
        if self.metric is None:
            return None
        return self.metric.value / 100 if self.metric.unit == "points" else self.metric.value

    @property
    def quality(self) -> float | None:
        """What counts as accuracy: the metric, or the SQNR where that is the metric."""
        return self.sqnr_db if self.metric is None else self.accuracy

    @property
    def size_kib(self) -> float:
        """Of the file."""
        return self.size_bytes / KIB

    @property
    def label(self) -> str:
        """Its coordinates, for people."""
        parts = (self.target, f"prune {self.prune:g}", self.precision, self.method, self.artifact)
        return " ".join(part for part in parts if part)


class Unmade(Frozen):
    """A cell, or an artifact of one, that there is no point of."""

    target: str
    prune: float
    precision: Precision
    method: str
    artifact: str
    """Or its backend; empty: the whole cell."""
    possible: bool
    """False: no backend of the target can; True: it failed."""
    reason: str


class Sweep(Frozen):
    """A whole sweep, in the order of its cells."""

    edgec: str
    model: str
    metric: str
    """Its name; empty when no cell came out."""
    samples: int
    """Evaluation samples that accuracies are of."""
    machine: Machine
    """What times were taken on."""
    points: tuple[Point, ...]
    unmade: tuple[Unmade, ...]
    rule: str = ""
    """Of `--pick`."""
    saved: str = ""
    """Target that the chosen point was written as."""
