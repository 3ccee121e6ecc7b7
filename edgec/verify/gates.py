"""Gates: what an artifact must hold, judged from its measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.machine import matches
from edgec.project.spec import Gates
from edgec.target.spec import Budget, Target
from edgec.verify.default_gates import judge_by_default
from edgec.verify.quality import (
    gate_result,
    judge_accuracy,
    judge_agreement,
    judge_drop,
    judge_sqnr,
    not_measured,
    unmeasurable,
)
from edgec.verify.records import QUALITY, GateResult, Measurement


def judge(gates: Gates, target: Target, measurements: Sequence[Measurement]) -> tuple[GateResult, ...]:
    """All gates of all artifacts.

    Quality is judged in every runtime that is judged; size once for each artifact; latency in the first runtime that
    was timed, and only when its machine stands for the target's device; the speed-up against float32 on any machine.
    A judged runtime that could not run the artifact fails the gate ``runs``; a gate that the user states and that
    cannot be measured fails too.

    Args:
        gates: the project's.
        target: has budgets, and the device.
        measurements: of all artifacts in all runtimes.
    """
    by_artifact: dict[str, list[Measurement]] = {}
    for item in measurements:
        by_artifact.setdefault(item.artifact, []).append(item)
    results: list[GateResult] = []
    for items in by_artifact.values():
        judged = [item for item in items if item.judged]
        for item in judged:
            results += _judge_quality(gates, target, item)
        if not judged:
            results.append(not_measured("runs", items[0], 1.0, "none of its runtimes is judged", default=True))
        results += _judge_size(gates, target.budget, items[0])
        results += _judge_latency(target, items)
        results += _judge_speed(target.budget, items)
    return tuple(results)


def gate_line(gate: GateResult) -> str:
    """One gate and how it came out, in one line: ``max_drop 0.5: 1.25, missed by 0.75``."""
    value = "not measured" if gate.value is None else f"{gate.value:.4g}"
    margin = f", missed by {-gate.margin:.4g}" if gate.margin is not None and gate.state in ("failed", "short") else ""
    default = " (default)" if gate.default else ""
    reason = f" ({gate.reason})" if gate.reason else ""
    return f"{gate.gate} {gate.limit:g}{default}: {value}{margin}{reason}"


def _judge_quality(gates: Gates, target: Target, item: Measurement) -> Iterator[GateResult]:
    if item.failure:
        yield gate_result("runs", item, 1.0, 0.0, -1.0, reason=item.failure, default=True)
        return
    if all(getattr(gates, name) is None for name in QUALITY):
        yield from judge_by_default(item, target.precision, strict=gates.strict)
    if gates.max_drop is not None:
        yield judge_drop(gates.max_drop, item, strict=gates.strict)
    if gates.min_agreement is not None:
        yield judge_agreement(gates.min_agreement, item, strict=gates.strict)
    if gates.min_sqnr_db is not None:
        yield judge_sqnr(gates.min_sqnr_db, item)
    if gates.min_accuracy is not None:
        yield judge_accuracy(gates.min_accuracy, item)


def _judge_size(gates: Gates, budget: Budget, item: Measurement) -> Iterator[GateResult]:
    limits = [limit for limit in (gates.max_size_kib, budget.size_kib) if limit is not None]
    if limits:
        size = item.size_bytes / 1024
        yield gate_result("max_size_kib", item, min(limits), size, min(limits) - size)


def _judge_latency(target: Target, items: Sequence[Measurement]) -> Iterator[GateResult]:
    limit = target.budget.latency_ms
    if limit is None:
        return
    timed = next((item for item in items if item.judged and item.latency is not None), None)
    if timed is None or timed.latency is None:
        yield not_measured("latency_ms", items[0], limit, "no judged runtime was timed")
    elif timed.emulated:
        yield not_measured("latency_ms", timed, limit, "it was measured under emulation")
    elif not matches(target.device, timed.machine):
        reason = f"measured on {timed.machine.cpu} ({timed.machine.arch}), which is no {target.device.name}"
        yield not_measured("latency_ms", timed, limit, reason)
    else:
        p50 = timed.latency.p50_ms
        yield gate_result("latency_ms", timed, limit, p50, limit - p50, f"{timed.latency.threads} threads")


def _judge_speed(budget: Budget, items: Sequence[Measurement]) -> Iterator[GateResult]:
    limit = budget.min_speedup
    if limit is None:
        return
    timed = next((item for item in items if item.judged and item.speed is not None), None)
    if timed is None or timed.speed is None:
        yield unmeasurable("min_speedup", items[0], limit, "it was not timed against its float32 twin")
        return
    speed = timed.speed
    reason = f"on {timed.machine.cpu}: {speed.low:.2f} to {speed.high:.2f} of {speed.runs} runs in turns"
    yield gate_result("min_speedup", timed, limit, speed.ratio, speed.ratio - limit, reason)
