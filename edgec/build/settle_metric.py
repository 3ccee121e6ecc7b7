"""The metric of a build, once the float model has run, and what the report says about how it came to be."""

from __future__ import annotations

from edgec.build.job import BuildData
from edgec.project.spec import Project
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.verify.settle import settle


def settle_metric(
    project: Project, data: BuildData, metric: Metric, reference: Outputs
) -> tuple[Metric, tuple[str, ...]]:
    """The metric to judge by, and notes about it.

    Args:
        project: what is built; a gate of agreement that it states is measured whatever the outputs are.
        data: of the build.
        metric: as it was told before the float model ran.
        reference: the float model's outputs on the evaluation samples.
    """
    insisted = project.gates.min_agreement is not None
    settled, why = settle(metric, reference, data.model.inputs, insisted=insisted)
    notes: tuple[str, ...] = (why,) if why else ()
    if data.evaluation.labels is not None and settled.name in ("sqnr", "agreement"):
        origin = project.evaluation.data if project.evaluation else data.evaluation.info.origin
        notes += (f"the labels of {origin} are not used: the metric is {settled.name}",)
    return settled, notes
