"""One gate of the outputs or of anything else, judged for one measurement."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.verify.records import GateResult, Measurement, MetricResult, OutputFidelity


def accuracy_limit(stated: float, metric: MetricResult) -> float:
    """``min_accuracy`` on the metric's scale: of one that is given in percent, at most 1 is a share."""
    return 100 * stated if metric.unit == "points" and stated <= 1 else stated


def judge_accuracy(stated: float, item: Measurement) -> GateResult:
    """Gate ``min_accuracy``: the metric itself."""
    metric = item.metric
    if metric is None:
        return unmeasurable("min_accuracy", item, stated, "the metric is sqnr, which does not measure accuracy")
    limit = accuracy_limit(stated, metric)
    reason = f"{metric.name} on {metric.samples} samples; float has {metric.float_value:.4g}"
    return gate_result("min_accuracy", item, limit, metric.value, metric.value - limit, reason)


def judge_drop(limit: float, item: Measurement, *, strict: bool, default: bool = False) -> GateResult:
    """The loss of the metric against the float model.

    Args:
        limit: of the drop, in the metric's unit.
        item: of an artifact in a runtime.
        strict: judge the upper bound of the 95 % interval instead of the drop itself.
        default: the gate is not the user's.
    """
    metric = item.metric
    if metric is None:
        return unmeasurable("max_drop", item, limit, "the metric is sqnr, which does not drop; state min_sqnr_db")
    unit = " points" if metric.unit == "points" else ""
    reason = f"{metric.name} {metric.float_value:.4g} -> {metric.value:.4g}{unit} on {metric.samples} samples"
    if metric.drop_low is not None and metric.drop_high is not None:
        reason += f", 95 % interval of the drop {metric.drop_low:.2f} to {metric.drop_high:.2f}"
    value = metric.drop
    if strict:
        if metric.drop_high is None:
            return unmeasurable("max_drop", item, limit, f"strict, and there is no interval: {metric.interval}")
        value = metric.drop_high
        reason = f"upper bound of the drop; {reason}"
    return gate_result("max_drop", item, limit, value, limit - value, reason, default=default)


def judge_agreement(limit: float, item: Measurement, *, strict: bool, default: bool = False) -> GateResult:
    """The share of equal arg-max, or of equal whole numbers, of the first output.

    Args:
        limit: least share, 0 to 1.
        item: of an artifact in a runtime.
        strict: judge the lower bound of the 95 % interval instead of the share itself.
        default: the gate is not the user's.
    """
    if item.agreement is None:
        return unmeasurable("min_agreement", item, limit, "the first output does not hold class scores")
    value, reason = item.agreement, ""
    if strict:
        if item.agreement_low is None:
            return unmeasurable("min_agreement", item, limit, "strict, and there is no interval of a single sample")
        value, reason = item.agreement_low, f"95 % lower bound of {item.agreement:.4f}"
    elif item.agreement_low is not None:
        reason = f"95 % lower bound {item.agreement_low:.4f}"
    return gate_result("min_agreement", item, limit, value, value - limit, reason, default=default)


def judge_sqnr(
    limit: float, item: Measurement, outputs: Sequence[OutputFidelity] | None = None, *, default: bool = False
) -> GateResult:
    """The SQNR of the worst output; with channels that have an SQNR of their own.

    Args:
        limit: least SQNR, in dB.
        item: of an artifact in a runtime.
        outputs: those to judge; None: all of `item`.
        default: the gate is not the user's.
    """
    judged = item.fidelity if outputs is None else outputs
    if not judged:
        return unmeasurable("min_sqnr_db", item, limit, "no output was compared")
    worst = min(judged, key=lambda output: output.sqnr_db)
    reason = f'worst output "{worst.output}"'
    return gate_result("min_sqnr_db", item, limit, worst.sqnr_db, worst.sqnr_db - limit, reason, default=default)


def gate_result(
    gate: str,
    item: Measurement,
    limit: float,
    value: float | None,
    margin: float | None,
    reason: str = "",
    *,
    default: bool = False,
) -> GateResult:
    """How a gate came out.

    Args:
        gate: its name.
        item: what was measured.
        limit: to hold.
        value: of the artifact; None: not measured.
        margin: distance to the limit, negative when it is missed; None: not measured.
        reason: more about the value.
        default: whether the user stated none.
    """
    return GateResult(
        gate=gate,
        artifact=item.artifact,
        runtime=item.runtime,
        limit=limit,
        value=value,
        # 91.4 - 90.4 is above 1 in binary
        state="not measured" if margin is None else "met" if margin >= -1e-9 else "failed",
        margin=margin,
        reason=reason,
        default=default,
    )


def unmeasurable(gate: str, item: Measurement, limit: float, reason: str) -> GateResult:
    """The result of a gate that must hold and that cannot be judged: it fails.

    Args:
        gate: its name.
        item: of an artifact in a runtime.
        limit: of the gate.
        reason: why it cannot be judged.
    """
    return not_measured(gate, item, limit, f"cannot be judged: {reason}").model_copy(update={"state": "failed"})


def not_measured(gate: str, item: Measurement, limit: float, reason: str, *, default: bool = False) -> GateResult:
    """The result of a gate without a value, for which the artifact is not refused.

    Args:
        gate: its name.
        item: of an artifact in a runtime.
        limit: of the gate.
        reason: why there is no value.
        default: the gate is not the user's.
    """
    return gate_result(gate, item, limit, None, None, reason, default=default)
