"""Gates: what an artifact must hold, judged from its measurements."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.machine import matches
from edgec.project.spec import Gates
from edgec.target.spec import Budget, Precision, Target
from edgec.verify.records import QUALITY, GateResult, Measurement, MetricResult


def default_gates(metric: str, target: Target, *, unit: str = "points", float_value: float = 100.0) -> Gates:
    """What is demanded of quality when the user states nothing.

    Args:
        metric: name of the metric: ``top1``, ``agreement``, ``sqnr`` or a Python entry.
        target: its precision decides how near to float the outputs must be.
        unit: of the metric; of ``1`` the scale is unknown, and the demand is relative.
        float_value: the float model's metric.
    """
    quantized = is_quantized(target.precision)
    if metric == "agreement":
        return Gates(min_agreement=0.95 if quantized else 0.99)
    if metric == "sqnr":
        return Gates(min_sqnr_db=20.0 if quantized else 40.0)
    return Gates(max_drop=1.0 if unit == "points" else 0.01 * abs(float_value))


def is_quantized(precision: Precision) -> bool:
    """Whether artifacts of this precision hold int8 weights."""
    return precision not in ("fp32", "fp16")


def judge(gates: Gates, target: Target, measurements: Sequence[Measurement]) -> tuple[GateResult, ...]:
    """All gates of all artifacts.

    Quality is judged in every runtime that is judged; size once for each artifact; latency in the first runtime that
    was timed, and only when its machine stands for the target's device; the speed-up against float32 on any machine.
    A judged runtime that could not run the artifact fails the gate ``runs``; a gate that the user states and that
    cannot be measured fails too.
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
            results.append(_not_measured("runs", items[0], 1.0, "none of its runtimes is judged", default=True))
        results += _judge_size(gates, target.budget, items[0])
        results += _judge_latency(target, items)
        results += _judge_speed(target.budget, items)
    return tuple(results)


def gate_line(gate: GateResult) -> str:
    """One gate and how it came out, in one line: ``max_drop 0.5: 1.25, missed by 0.75``."""
    value = "not measured" if gate.value is None else f"{gate.value:.4g}"
    margin = f", missed by {-gate.margin:.4g}" if gate.margin is not None and gate.state == "failed" else ""
    default = " (default)" if gate.default else ""
    reason = f" ({gate.reason})" if gate.reason else ""
    return f"{gate.gate} {gate.limit:g}{default}: {value}{margin}{reason}"


def _judge_quality(gates: Gates, target: Target, item: Measurement) -> Iterator[GateResult]:
    if item.failure:
        yield _result("runs", item, 1.0, 0.0, -1.0, reason=item.failure, default=True)
        return
    default = all(getattr(gates, name) is None for name in QUALITY)
    if default:
        metric = item.metric
        chosen = (
            default_gates(metric.name, target, unit=metric.unit, float_value=metric.float_value)
            if metric
            else default_gates("sqnr", target)
        )
        gates = chosen.model_copy(update={"strict": gates.strict})
    if gates.max_drop is not None:
        yield _judge_drop(gates.max_drop, item, default, strict=gates.strict)
    if gates.min_agreement is not None:
        if item.agreement is None:
            yield _unmeasurable("min_agreement", item, gates.min_agreement, "the first output is no class scores")
        else:
            reason = "" if item.agreement_low is None else f"95 % lower bound {item.agreement_low:.4f}"
            value = item.agreement
            if gates.strict and item.agreement_low is not None:
                value, reason = item.agreement_low, f"95 % lower bound of {item.agreement:.4f}"
            margin = value - gates.min_agreement
            yield _result("min_agreement", item, gates.min_agreement, value, margin, reason, default=default)
    if gates.min_sqnr_db is not None:
        sqnr = item.sqnr_db()
        if sqnr is None:
            yield _unmeasurable("min_sqnr_db", item, gates.min_sqnr_db, "no output was compared")
        else:
            worst = min(item.fidelity, key=lambda output: output.sqnr_db)
            margin = sqnr - gates.min_sqnr_db
            reason = f'worst output "{worst.output}"'
            yield _result("min_sqnr_db", item, gates.min_sqnr_db, sqnr, margin, reason, default=default)
    if gates.min_accuracy is not None:
        yield _judge_accuracy(gates.min_accuracy, item)


def accuracy_limit(stated: float, metric: MetricResult) -> float:
    """``min_accuracy`` on the metric's scale: of one that is told in percent, at most 1 is a share."""
    return 100 * stated if metric.unit == "points" and stated <= 1 else stated


def _judge_accuracy(stated: float, item: Measurement) -> GateResult:
    metric = item.metric
    if metric is None:
        return _unmeasurable("min_accuracy", item, stated, "the metric is sqnr, which is no accuracy")
    limit = accuracy_limit(stated, metric)
    reason = f"{metric.name} on {metric.samples} samples; float has {metric.float_value:.4g}"
    return _result("min_accuracy", item, limit, metric.value, metric.value - limit, reason)


def _judge_drop(limit: float, item: Measurement, default: bool, *, strict: bool) -> GateResult:
    metric = item.metric
    if metric is None:
        return _unmeasurable("max_drop", item, limit, "the metric is sqnr, which does not drop; state min_sqnr_db")
    unit = " points" if metric.unit == "points" else ""
    reason = f"{metric.name} {metric.float_value:.4g} -> {metric.value:.4g}{unit} on {metric.samples} samples"
    if metric.drop_low is not None and metric.drop_high is not None:
        reason += f", 95 % interval of the drop {metric.drop_low:.2f} to {metric.drop_high:.2f}"
    value = metric.drop
    if strict:
        if metric.drop_high is None:
            return _unmeasurable("max_drop", item, limit, f"strict, and there is no interval: {metric.interval}")
        value = metric.drop_high
        reason = f"upper bound of the drop; {reason}"
    return _result("max_drop", item, limit, value, limit - value, reason, default=default)


def _judge_size(gates: Gates, budget: Budget, item: Measurement) -> Iterator[GateResult]:
    limits = [limit for limit in (gates.max_size_kib, budget.size_kib) if limit is not None]
    if limits:
        size = item.size_bytes / 1024
        yield _result("max_size_kib", item, min(limits), size, min(limits) - size)


def _judge_latency(target: Target, items: Sequence[Measurement]) -> Iterator[GateResult]:
    limit = target.budget.latency_ms
    if limit is None:
        return
    timed = next((item for item in items if item.judged and item.latency is not None), None)
    if timed is None or timed.latency is None:
        yield _not_measured("latency_ms", items[0], limit, "no judged runtime was timed")
    elif timed.emulated:
        yield _not_measured("latency_ms", timed, limit, "it was measured under emulation")
    elif not matches(target.device, timed.machine):
        reason = f"measured on {timed.machine.cpu} ({timed.machine.arch}), which is no {target.device.name}"
        yield _not_measured("latency_ms", timed, limit, reason)
    else:
        p50 = timed.latency.p50_ms
        yield _result("latency_ms", timed, limit, p50, limit - p50, f"{timed.latency.threads} threads")


def _judge_speed(budget: Budget, items: Sequence[Measurement]) -> Iterator[GateResult]:
    limit = budget.min_speedup
    if limit is None:
        return
    timed = next((item for item in items if item.judged and item.speed is not None), None)
    if timed is None or timed.speed is None:
        yield _unmeasurable("min_speedup", items[0], limit, "it was not timed against its float32 twin")
        return
    speed = timed.speed
    reason = f"on {timed.machine.cpu}: {speed.low:.2f} to {speed.high:.2f} of {speed.runs} runs in turns"
    yield _result("min_speedup", timed, limit, speed.ratio, speed.ratio - limit, reason)


def _result(
    gate: str,
    item: Measurement,
    limit: float,
    value: float,
    margin: float,
    reason: str = "",
    *,
    default: bool = False,
) -> GateResult:
    return GateResult(
        gate=gate,
        artifact=item.artifact,
        runtime=item.runtime,
        limit=limit,
        value=value,
        state="met" if margin >= -1e-9 else "failed",  # 91.4 - 90.4 is above 1 in binary
        margin=margin,
        reason=reason,
        default=default,
    )


def _unmeasurable(gate: str, item: Measurement, limit: float, reason: str) -> GateResult:
    """A gate that the user states and that this artifact cannot show to be met."""
    return _not_measured(gate, item, limit, f"cannot be judged: {reason}").model_copy(update={"state": "failed"})


def _not_measured(gate: str, item: Measurement, limit: float, reason: str, *, default: bool = False) -> GateResult:
    return GateResult(
        gate=gate,
        artifact=item.artifact,
        runtime=item.runtime,
        limit=limit,
        value=None,
        state="not measured",
        margin=None,
        reason=reason,
        default=default,
    )
