"""Records of what was not done as the target asks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from edgec.frozen import Frozen

CoverageState = Literal[
    # how an op, layer or weight computes or is stored
    "float32", "float16", "float64", "int8-dynamic", "storage only", "per-tensor", "per-channel", "min-max",
    "clamped", "unrolled", "by onnx2tf by way of TensorFlow",
    # what a pass left as it was
    "skipped", "BatchNorm kept", "ReLU", "bias not corrected", "in place", "no module", "not corrected",
    "not equalized", "not smoothed", "padding kept", "rounded to nearest",
    # pruning and training
    "dense", "measured elsewhere", "no faster", "not fine-tuned", "not pruned", "not reached", "not simulated",
    "not used", "trained",
    # artifacts
    "not built", "gates missed", "fell back to fp32", "fell back to fp16", "below the goal", "runtime left out",
    # measurements and bundle
    "assumed", "layers not compared", "measured with other kernels", "not in bench/", "not kept", "not timed",
    "ranges not observed", "speed-up not measured", "weak evidence",
]  # fmt: skip
"""All that a subject can be instead of what the target asks. What goes beyond it, such as numbers, is in the reason."""

SHOWN = 3
"""Subjects of one reason that are named; all are in the manifest and the report."""
_LOUD: frozenset[CoverageState] = frozenset(
    {"fell back to fp32", "fell back to fp16", "runtime left out", "below the goal"}
)


class Coverage(Frozen):
    """One thing that was not done as the target asks, and why. Shown in the report; never silent."""

    subject: str
    """Layer, op or artifact it concerns."""
    state: CoverageState
    """What it is instead."""
    reason: str

    @property
    def loud(self) -> bool:
        """Whether the artifact has another precision than the target's, runs in fewer runtimes, or misses a goal."""
        return self.state in _LOUD


def by_reason(reasons: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """``subject, subject and 3 more: reason`` for each reason, in the order in which they begin.

    Args:
        reasons: subject and reason, in any number of pairs.
    """
    groups: dict[str, dict[str, None]] = {}
    for subject, reason in reasons:
        groups.setdefault(reason, {})[subject] = None
    lines = []
    for reason, subjects in groups.items():
        more = len(subjects) - SHOWN
        named = ", ".join([*subjects] if more <= 1 else [*subjects][:SHOWN])
        lines.append(f"{named}{f' and {more} more' if more > 1 else ''}: {reason}")
    return tuple(lines)
