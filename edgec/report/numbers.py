"""Numbers as text, alike on pages and in tables."""

from __future__ import annotations

import math

from edgec.verify.records import MetricResult

NOT_MEASURED = "-"


def number(value: float | None, digits: int = 2) -> str:
    """Format a number; None: `NOT_MEASURED`. Equal outputs have an infinite SQNR."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.{digits}f}" if math.isfinite(value) else f"{value:g}".replace("inf", "∞")


def drop_text(metric: MetricResult | None, sign: str = "") -> str:
    """The drop of a metric with its 95 % interval, where it has one: ``0.50 (-0.20 to 1.10)``.

    Args:
        metric: None: not measured.
        sign: ``+`` to mark positive numbers.
    """
    if metric is None:
        return NOT_MEASURED
    drop = f"{metric.drop:{sign}.2f}"
    if metric.drop_low is None or metric.drop_high is None:
        return drop
    return f"{drop} ({metric.drop_low:{sign}.2f} to {metric.drop_high:{sign}.2f})"
