"""Ops of the model that an artifact does not support or keeps in float: op x artifact x precision."""

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
class _Problem:
    """Ops that are refused or kept in float for one reason."""

    reason: str
    refused: bool
    precision: Precision
    nodes: tuple[tuple[str, tuple[str, ...]], ...]
    """Ops, and the nodes of each."""


def of_plans(plans: Sequence[Plan], graph: OpGraph | None, model: FloatModel | None) -> Iterator[Finding]:
    """Ops that the artifacts of targets refuse (errors) or keep in float (warnings).

    One finding holds all ops with the same reason, and all artifacts that treat them alike.

    Args:
        plans: of the targets.
        graph: the model's ops; None when they are not known.
        model: the model itself, where it is loaded.
    """
    alike: dict[_Problem, list[str]] = {}
    for plan in plans:
        for item in plan.emits:
            yield from _untraceable(plan, item, model)
            for problem in _problems(plan, item, graph) if graph is not None else ():
                alike.setdefault(problem, []).append(item.file)
    for problem, files in alike.items():
        place = f"{', '.join(dict.fromkeys(files))}, {problem.precision}"
        ops = ", ".join(f"{op} ({listed(nodes)})" for op, nodes in problem.nodes)
        if problem.refused:
            error = UnsupportedError(f"{ops}: the artifact will be missing: {problem.reason}", where=place, hint=_HINT)
            yield finding_of(error, "op")
        else:
            yield warning("op", f"{ops}: {problem.reason}", where=place)


def _untraceable(plan: Plan, item: PlannedEmit, model: FloatModel | None) -> Iterator[Finding]:
    if item.backend.needs_graph and model is not None and model.onnx is None and model.untraceable:
        hint = "the other artifacts do not need the graph"
        error = TraceError(f"the artifact will be missing: {model.untraceable}", where=item.file, hint=hint)
        yield finding_of(error, "op")


def _problems(plan: Plan, item: PlannedEmit, graph: OpGraph) -> Iterator[_Problem]:
    if not isinstance(item.backend, OpAdviser):
        return
    by_reason: dict[tuple[str, bool], dict[str, list[str]]] = {}
    for problem in item.backend.problems(graph.ops, plan.target, item.emit):
        by_reason.setdefault((problem.reason, problem.refused), {}).setdefault(problem.op, []).append(problem.node)
    for (reason, refused), ops in by_reason.items():
        nodes = tuple((op, tuple(names)) for op, names in ops.items())
        yield _Problem(reason, refused, plan.target.precision, nodes)


def is_weighty(finding: Finding) -> bool:
    """Whether a finding about ops is worth a line in every build: a refusal, or ops that hold the weights."""
    return finding.severity == "error" or any(f"{op} (" in finding.what for op in WEIGHTED)
