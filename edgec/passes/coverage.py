"""Records of what was not done as the target asks."""

from __future__ import annotations

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
