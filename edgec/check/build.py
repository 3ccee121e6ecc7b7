"""What a build tells before its first artifact, of the model and the samples that it has loaded anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgec.check import memory, ops, small_sets
from edgec.check.model import guarded
from edgec.check.records import Finding, in_order, warning
from edgec.dataset.spool import Spool
from edgec.model.graph_ops import OpGraph
from edgec.model.onnx_survey import read_graph
from edgec.model.spec import FloatModel
from edgec.passes.coverage import Coverage
from edgec.passes.fx_ops import ops_of_graph
from edgec.plan.plan import Plan
from edgec.project.record import recorded_path


def findings_of(plan: Plan, model: FloatModel, calibration: Spool | None, evaluation: Spool) -> tuple[Finding, ...]:
    """Small or uniform sets of samples, ops with weights that stay in float, refused ops, and too little memory.

    Args:
        plan: of the target.
        model: as loaded.
        calibration: its calibration samples, where it has some.
        evaluation: its evaluation samples.
    """
    failed: list[Finding] = []
    graph = guarded(lambda: graph_of_model(model), "op", failed, model.source.path)
    found = [warning("op", item.what, where=item.where) for item in failed]  # nothing that is built needs it
    found += [item for item in ops.of_plans([plan], graph, model) if ops.is_weighty(item)]
    found += memory.of_plans([plan], graph, [item.name for item in model.inputs])
    return in_order([*found, *small_sets.of_spools(calibration, evaluation)])


def graph_of_model(model: FloatModel) -> OpGraph | None:
    """The ops of a loaded model; None where only code of the user knows them."""
    if model.onnx is not None:
        return read_graph(model.onnx, model.inputs)
    return ops_of_graph(model.graph, model.inputs) if model.graph is not None else None


def coverage_of(findings: Iterable[Finding]) -> Iterator[Coverage]:
    """What a manifest keeps of findings: that figures rest on few samples, or on samples that are alike."""
    for item in findings:
        if item.kind == "small-set":
            yield Coverage(subject=recorded_path(item.where), state="weak evidence", reason=item.what)
