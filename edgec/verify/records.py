"""What was measured of an artifact, and how its gates came out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgec.backends.interface import OpRecord
from edgec.frozen import Frozen
from edgec.machine import Machine
from edgec.quant.recipe import Recipe

QUALITY = ("max_drop", "min_agreement", "min_sqnr_db", "min_accuracy")
"""Gates of the outputs."""
TIMED = ("latency_ms", "min_speedup")
"""Gates of times, which come out differently each time."""
MayBeInfinite = Annotated[float, Field(strict=False)]
"""A float that may be infinite: JSON has it as the text ``Infinity``, which only lax validation reads back."""


class MetricResult(Frozen):
    """The user's metric, float against artifact, paired sample by sample."""

    name: str
    unit: Literal["points", "dB", "1"]
    """``points``: values are in percent and differences in percentage points. ``1``: the metric's own scale."""
    float_value: float
    value: float
    drop: float
    """float_value - value: positive is a loss."""
    drop_low: float | None
    """Lower bound of the 95 % confidence interval of `drop`; None when the metric is not per sample."""
    drop_high: float | None
    interval: str
    """How the interval was computed, or why there is none."""
    samples: int


class OutputFidelity(Frozen):
    """One output, or one group of its channels, against the float model's."""

    output: str
    """Its name; of a group with its channels, batch axis left out: ``y[0:4]``."""
    sqnr_db: MayBeInfinite
    """10 log10(sum of squares of float / sum of squares of difference), over all samples; inf when equal.

    Of class numbers and truth values that of their one-hot vectors: 10 log10(elements / (2 elements that differ)).
    """
    max_abs_error: MayBeInfinite
    varying_db: MayBeInfinite | None = None
    """The same of what differs between samples: each element's mean over them is taken from signal and difference.

    An artifact that gives the same for all samples has 0 dB. None where the float model does just that, or there is
    one sample only.
    """
    equal: float | None = None
    """Share of equal elements, for outputs of class numbers or truth values; None for others."""
    channels: str = ""
    """Which channels the group has, as in `output`; empty for a whole output."""

    @property
    def tensor(self) -> str:
        """Name of the output, without channels."""
        return self.output.removesuffix(f"[{self.channels}]") if self.channels else self.output


class Latency(Frozen):
    """Batch-1 time of the artifact in this runtime on `Machine`; medians in milliseconds."""

    p50_ms: float
    p90_ms: float
    runs: int
    threads: int
    taken: str = ""
    """When, in UTC: ``2026-11-30 09:41``. Times of an artifact that has not changed are kept."""


class SlowOp(Frozen):
    """Ops of one kind that keep an artifact from being faster than its float32 twin."""

    op: str
    dtype: str
    """``cast`` for conversions between float and integers."""
    count: int
    ms: float | None
    """Of all of them together, for one sample; None when the runtime does not measure it."""
    float_ms: float | None
    """Of the same layers in the float32 twin; None when that is not measured, or the twin has no such ops."""
    reason: str
    """Why it costs: it converts, it is not in the target's precision and why, or its kernel is the slower one."""


class Speed(Frozen):
    """Latency of the float32 twin over the artifact's, turn by turn: above 1 the artifact is faster."""

    ratio: float
    """Median over all rounds of a turn each."""
    low: float
    """Lower bound of the 95 % confidence interval of `ratio`, by order statistics."""
    high: float
    """Its upper bound."""
    float_ms: float
    """Median of the twin."""
    runs: int
    """Rounds."""
    blame: tuple[SlowOp, ...] = ()
    """When the artifact is `slower`: the ops that cost most, the worst first."""
    times_ops: bool = False
    """Whether the runtime measured how long each op takes; else `blame` holds casts and float ops without times."""

    @property
    def slower(self) -> bool:
        """Whether the artifact is clearly slower than its float32 twin, the noise of the machine considered."""
        return self.high < 1


class Measurement(Frozen):
    """One artifact in one runtime on one machine, over the evaluation set."""

    artifact: str
    backend: str
    runtime: str
    runtime_version: str
    judged: bool
    machine: Machine
    emulated: bool = False
    size_bytes: int
    samples: int
    metric: MetricResult | None
    """None when the metric is ``sqnr``, which `fidelity` holds, and when the runtime failed."""
    agreement: float | None
    """Share of arg-max (or of elements, for whole numbers) that equals the float model's; None when the first output
    is neither class scores nor whole numbers."""
    agreement_low: float | None
    """Lower 95 % bound of `agreement` (Wilson's; Student's t where a sample can agree in part)."""
    fidelity: tuple[OutputFidelity, ...]
    ops: tuple[OpRecord, ...]
    latency: Latency | None
    speed: Speed | None = None
    """Against the float32 twin; None for float32 itself, and where it was not measured."""
    peak_rss_mb: float | None
    failure: str = ""
    """Why the runtime could not run the artifact; everything measured is then None or empty."""

    def sqnr_db(self) -> float | None:
        """SQNR in dB of the worst output or group of channels, or None when nothing was measured."""
        return min((item.sqnr_db for item in self.fidelity), default=None)


class CandidateScore(Frozen):
    """One recipe on calibration samples, in the real runtime: how candidates of a rung are compared."""

    recipe: Recipe
    sqnr_db: MayBeInfinite | None
    """Of the worst output; None when it could not be made."""
    agreement: float | None
    """As in `Measurement`, on these samples."""
    failure: str = ""
    chosen: bool = False


class RungRecord(Frozen):
    """One rung of the accuracy ladder that was tried for an artifact, or why it was not."""

    artifact: str
    rung: str
    state: Literal["met", "short", "failed", "skipped"]
    """As that of its gates: ``failed`` when one is, else ``short`` when one is."""
    recipe: Recipe | None
    """What went before the gates; None when nothing did."""
    sqnr_db: MayBeInfinite | None
    """Of the worst judged runtime and output, on the evaluation samples."""
    reason: str = ""
    """The gates that were missed, or why the rung was skipped."""
    candidates: tuple[CandidateScore, ...] = ()


class GateResult(Frozen):
    """One gate, judged for one artifact in one runtime."""

    gate: str
    artifact: str
    runtime: str
    limit: float
    value: MayBeInfinite | None
    state: Literal["met", "short", "failed", "not measured"]
    """``short``: a default gate was missed, by so little that the artifact is not refused for it."""
    margin: MayBeInfinite | None
    """Distance to the limit, positive when met."""
    reason: str = ""
    default: bool = False
    """Whether edgec set this gate because the user stated none."""

    @property
    def quality(self) -> bool:
        """Whether it is about the outputs, which another recipe may mend."""
        return self.gate in QUALITY
