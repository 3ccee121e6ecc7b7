"""What is demanded of the outputs when no gate of them is stated: a goal to work for, and what is refused.

The accuracy ladder climbs for the goal. An artifact that ends short of it is kept, with a warning, unless it is
plainly broken. With labels, or a metric of the user's own, goal and refusal are one: what is lost is known there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec.target.spec import Precision
from edgec.verify.quality import gate_result, judge_agreement, judge_drop, judge_sqnr
from edgec.verify.records import GateResult, Measurement, OutputFidelity


@dataclass(frozen=True)
class Demands:
    """Goals, and what is refused, of artifacts of one kind of precision."""

    sqnr_db: float
    """Goal of each output that is not class scores."""
    broken_db: float
    """Below it an artifact is refused."""
    agreement: float
    """Goal of the share of equal classes."""


INTEGER = Demands(sqnr_db=20.0, broken_db=10.0, agreement=0.95)
FLOAT = Demands(sqnr_db=40.0, broken_db=20.0, agreement=0.99)
MAX_DROP = 1.0
"""Goal and limit of what is lost of a metric in percentage points; of any other metric, in percent of float's value."""
NEAR_DB = 20.0
"""From this SQNR on scores are float's, and an arg-max that differs is of classes that were nearly equal."""
RANKS = 0.5
"""Share of equal classes below which scores no longer rank, however near they are."""
RANKS_FAR = 0.8
"""The same for scores farther than `NEAR_DB`, and for whole numbers."""

RANKS_DB = 3.0
"""SQNR of what differs between samples, below which an output that is not near no longer ranks them.

An artifact that gives the same for all samples has 0 dB of it, and 12 to 20 dB in all where scores lie around a mean.
"""


def demands_of(precision: Precision) -> Demands:
    """What is demanded of a target of this precision."""
    return FLOAT if precision in ("fp32", "fp16") else INTEGER


def judge_by_default(item: Measurement, precision: Precision, *, strict: bool) -> Iterator[GateResult]:
    """The gates that fit the metric, for a runtime that runs the artifact.

    Of agreement that is the share of the first output, and what `sqnr` demands of the others. Of ``sqnr`` it is the
    SQNR of the worst output or group of channels, and the share of equal elements of the worst of whole numbers.

    Args:
        item: what was measured.
        precision: of the target.
        strict: whether the 95 % bound of drop and agreement is judged.
    """
    metric, demands = item.metric, demands_of(precision)
    if metric is not None and metric.name != "agreement":
        limit = MAX_DROP if metric.unit == "points" else MAX_DROP / 100 * abs(metric.float_value)
        yield judge_drop(limit, item, strict=strict, default=True)
        return
    others: Sequence[OutputFidelity] = item.fidelity
    if metric is not None:
        first = item.fidelity[0].tensor if item.fidelity else ""
        own = [output for output in item.fidelity if output.tensor == first]
        others = [output for output in item.fidelity if output.tensor != first]
        yield _agreement(item, own, demands, strict=strict)
    sized = [output for output in others if output.equal is None]
    maps = [(output.equal, output.output) for output in others if output.equal is not None]
    if sized or not item.fidelity:
        yield _sqnr(item, sized, demands)
    if maps:
        yield _map(item, *min(maps), demands)


def _agreement(item: Measurement, own: Sequence[OutputFidelity], demands: Demands, *, strict: bool) -> GateResult:
    result = judge_agreement(demands.agreement, item, strict=strict, default=True)
    if result.state != "failed" or item.agreement is None:
        return result
    worst = min((output.sqnr_db for output in own if output.equal is None), default=None)
    least = RANKS if worst is not None and worst >= NEAR_DB else RANKS_FAR
    if item.agreement < least or (worst is not None and worst < demands.broken_db):
        return result
    reason = (
        f"under {least:g}" if worst is None else f"under {least:g} or {demands.broken_db:g} dB, here {worst:.1f} dB"
    )
    return _short(result, reason)


def _sqnr(item: Measurement, outputs: Sequence[OutputFidelity], demands: Demands) -> GateResult:
    result = judge_sqnr(demands.sqnr_db, item, outputs, default=True)
    if result.state != "failed" or result.value is None or result.value < demands.broken_db:
        return result
    if unmoved := _unmoved(outputs):
        return result.model_copy(update={"reason": f"{result.reason}; {unmoved}, and refused is under {RANKS_DB:g} dB"})
    return _short(result, f"under {demands.broken_db:g} dB")


def _unmoved(outputs: Sequence[OutputFidelity]) -> str:
    """The output that hardly follows the input, though its SQNR, which counts what never changes, may be fair."""
    far = [output for output in outputs if output.sqnr_db < NEAR_DB and output.varying_db is not None]
    worst = min(far, key=lambda output: output.varying_db or 0.0, default=None)
    if worst is None or worst.varying_db is None or worst.varying_db >= RANKS_DB:
        return ""
    return f'what differs between samples of "{worst.output}" is at {worst.varying_db:.1f} dB'


def _map(item: Measurement, equal: float, output: str, demands: Demands) -> GateResult:
    """Of whole numbers that are names of things."""
    limit, reason = demands.agreement, f'equal elements of the worst output "{output}"'
    result = gate_result("min_agreement", item, limit, equal, equal - limit, reason, default=True)
    if result.state != "failed" or equal < RANKS_FAR:
        return result
    return _short(result, f"under {RANKS_FAR:g}")


def _short(result: GateResult, refused: str) -> GateResult:
    """A missed gate that does not refuse the artifact."""
    reason = "; ".join(part for part in (result.reason, f"kept: no gate is stated, and refused is {refused}") if part)
    return result.model_copy(update={"state": "short", "reason": reason})
