"""The memory that a model needs, estimated from shapes, against the memory of the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec.check.records import Finding, finding_of, warning
from edgec.errors import UnsupportedError
from edgec.model.graph_ops import OpGraph
from edgec.plan.plan import Plan
from edgec.target.spec import Precision

_WEIGHT_BYTES: dict[Precision, float] = {
    "fp32": 4,
    "fp16": 2,
    "int8": 1,
    "int8-dynamic": 1,
    "int8-weight-only": 1,
    "int4-weight-only": 0.5,
}
_MB = 2**20
MUCH = 0.5
"""Share of the device's memory above which the estimate is worth a warning: the system needs some too."""


@dataclass(frozen=True)
class Memory:
    """An estimate, in MB of 2^20 bytes."""

    weights: float
    activations: float

    @property
    def total(self) -> float:
        """Weights and activations."""
        return self.weights + self.activations


def estimate(graph: OpGraph, inputs: Sequence[str], precision: Precision) -> Memory:
    """Weights in `precision`, and the peak of one sample's activations: int8 for precision int8, else float32.

    Args:
        graph: the model's ops.
        inputs: names of the model's inputs.
        precision: of the artifact.
    """
    share = 0.25 if precision == "int8" else 1.0
    weights = graph.weight_elements * _WEIGHT_BYTES[precision] / _MB
    return Memory(weights, share * graph.peak_bytes(inputs) / _MB)


def of_plans(plans: Sequence[Plan], graph: OpGraph | None, inputs: Sequence[str]) -> Iterator[Finding]:
    """Models that do not fit the devices of the targets, by estimate.

    Args:
        plans: of the targets.
        graph: the model's ops; None: not known, no findings.
        inputs: names of the model's inputs.
    """
    for plan in plans if graph is not None else ():
        assert graph is not None
        device, memory = plan.target.device, estimate(graph, inputs, plan.target.precision)
        if memory.total <= MUCH * device.ram_mb:
            continue
        what = (
            f"it needs about {memory.total:.0f} MB (an estimate: {memory.weights:.0f} MB of weights and "
            f"{memory.activations:.0f} MB of activations at batch 1), and {device.name} has {device.ram_mb} MB"
        )
        hint = "a smaller model or input, a target of less precision, or another device (ram_mb)"
        if memory.total > device.ram_mb:
            yield finding_of(UnsupportedError(what, where=plan.target.name, hint=hint), "memory")
        else:
            yield warning("memory", what, where=plan.target.name, hint=hint)
