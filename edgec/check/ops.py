"""What each artifact cannot take of the model, or will keep in float: op x artifact x precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec.backends.interface import OpAdviser
from edgec.check.model import listed
from edgec.check.records import Finding, finding_of, warning
from edgec.errors import TraceError, UnsupportedError
from edgec.model.graph_ops import OpGraph
from edgec.model.spec import FloatModel
from edgec.plan.plan import Plan, PlannedEmit
from edgec.target.spec import Precision

WEIGHTED = frozenset(
    {"Attention", "Bilinear", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"}
)
"""Ops that hold nearly all of a model's arithmetic."""
_HINT = "replace the op in the model, or leave this artifact out of the target"


@dataclass(frozen=True)
class _Told:
    """What findings have in common that are told as one."""

    reason: str
    refused: bool
    precision: Precision
    nodes: tuple[tuple[str, tuple[str, ...]], ...]
    """Ops, and the nodes of each."""


def of_plans(plans: Sequence[Plan], graph: OpGraph | None, model: FloatModel | None) -> Iterator[Finding]:
    """What the artifacts of targets refuse (errors) or keep in float (warnings).

    Ops that have the same reason are told in one finding, and so are artifacts that treat them alike.

    Args:
        plans: of the targets.
        graph: the model's ops; None when they are not known.
        model: the model itself, where it is loaded.
    """
    alike: dict[_Told, list[str]] = {}
    for plan in plans:
        for item in plan.emits:
            yield from _untraceable(plan, item, model)
            for told in _told(plan, item, graph) if graph is not None else ():
                alike.setdefault(told, []).append(item.file)
    for told, files in alike.items():
        place = f"{', '.join(dict.fromkeys(files))}, {told.precision}"
        ops = ", ".join(f"{op} ({listed(nodes)})" for op, nodes in told.nodes)
        if told.refused:
            error = UnsupportedError(f"{ops}: it will be missing: {told.reason}", where=place, hint=_HINT)
            yield finding_of(error, "op")
        else:
            yield warning("op", f"{ops}: {told.reason}", where=place)


def _untraceable(plan: Plan, item: PlannedEmit, model: FloatModel | None) -> Iterator[Finding]:
    if item.backend.needs_graph and model is not None and model.onnx is None and model.untraceable:
        hint = "the other artifacts do not need the graph"
        error = TraceError(f"it will be missing: {model.untraceable}", where=item.file, hint=hint)
        yield finding_of(error, "op")


def _told(plan: Plan, item: PlannedEmit, graph: OpGraph) -> Iterator[_Told]:
    if not isinstance(item.backend, OpAdviser):
        return
    by_reason: dict[tuple[str, bool], dict[str, list[str]]] = {}
    for problem in item.backend.problems(graph.ops, plan.target, item.emit):
        by_reason.setdefault((problem.reason, problem.refused), {}).setdefault(problem.op, []).append(problem.node)
    for (reason, refused), ops in by_reason.items():
        nodes = tuple((op, tuple(names)) for op, names in ops.items())
        yield _Told(reason, refused, plan.target.precision, nodes)


def is_weighty(finding: Finding) -> bool:
    """Whether a finding about ops is worth a line in every build: a refusal, or ops that hold the weights."""
    return finding.severity == "error" or any(f"{op} (" in finding.what for op in WEIGHTED)
