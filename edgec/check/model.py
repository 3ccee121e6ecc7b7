"""Loads the model, and reports errors and doubtful inputs or ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from edgec.check.records import Finding, Kind, finding_of, warning
from edgec.errors import EdgecError, InputSpecError, ModelError, ProjectError
from edgec.model.formats.interface import ModelFile
from edgec.model.formats.registry import loader_of
from edgec.model.graph_ops import CONTROL_FLOW, UNSIZED, OpGraph
from edgec.model.load import existing, load_model, model_file
from edgec.model.python_entry import NO_WEIGHTS
from edgec.model.spec import FloatModel, TensorSpec
from edgec.model.survey import ModelSurvey
from edgec.passes.fx_ops import ops_of_graph
from edgec.project.load import split_entry
from edgec.project.spec import ModelSpec

T = TypeVar("T")
_SHOWN = 4
_FORMS: tuple[tuple[Kind, frozenset[str], str], ...] = (
    ("control-flow", CONTROL_FLOW, "control flow"),
    ("input", UNSIZED, "results whose number depends on the data, where artifacts have fixed shapes"),
)
_LONGEST = 300


@dataclass(frozen=True)
class Opened(ModelSurvey):
    """A model as far as it is known, with its findings; `inputs` are the stated ones where the file does not open."""

    findings: list[Finding] = field(default_factory=list)


def open_model(spec: ModelSpec, root: Path) -> Opened:
    """Load a model as far as possible, and collect its findings."""
    stated = tuple(TensorSpec.of(item) for item in spec.inputs)
    findings: list[Finding] = []
    opened = Opened((), inputs=stated, settled=bool(stated), findings=findings)
    if spec.path is None:
        return opened  # planning reports it
    name = spec.path
    file = (split_entry(name) or (name, ""))[0]
    path = guarded(lambda: existing(root, file), "model", findings, file)
    weights = spec.weights
    if weights is not None and guarded(lambda: existing(root, weights), "model", findings, weights) is None:
        spec = spec.model_copy(update={"weights": None})  # the rest is checked without them
    if path is None:
        return opened
    loader = guarded(lambda: loader_of(path, file), "model", findings, name)
    if loader is None:
        return opened
    if loader.survey is not None and not (spec.weights or spec.arguments):
        return _surveyed(loader.survey, model_file(spec, root), opened)
    model = guarded(lambda: load_model(spec, root), "model", findings, name)
    if model is not None:
        graph = None
        if (traced := model.graph) is not None:
            graph = guarded(lambda: ops_of_graph(traced, model.inputs), "model", findings, name)
        opened = replace(opened, inputs=model.inputs, outputs=model.outputs, settled=True, model=model, graph=graph)
        findings += of_loaded(model)
    if spec.weights != weights:
        findings[:] = [item for item in findings if NO_WEIGHTS not in item.what]
        opened = replace(opened, model=None)  # it would be run with random weights
    findings += of_form(name, opened.inputs, opened.graph)
    return opened


def _surveyed(survey: Callable[[ModelFile], ModelSurvey], file: ModelFile, opened: Opened) -> Opened:
    findings = opened.findings
    known = guarded(lambda: survey(file), "model", findings, file.name)
    if known is None:
        return opened
    findings += [
        finding_of(error, "input" if isinstance(error, InputSpecError) else "model") for error in known.problems
    ]
    findings += [warning("model", note, where=file.name) for note in known.notes]
    findings += of_form(file.name, known.inputs, known.graph)
    return Opened(**vars(known), findings=findings)


def of_loaded(model: FloatModel) -> Iterator[Finding]:
    """Assumptions of loading, and why there is no graph."""
    for note in model.notes:
        yield warning("model", note, where=model.source.path)
    if model.untraceable:
        yield warning(
            "control-flow",
            f"torch cannot capture its graph: {model.untraceable}",
            where=model.source.path,
            hint="artifacts that begin with an ONNX export keep what one sample did there; torch's cannot be made",
        )


def of_form(name: str, inputs: Sequence[TensorSpec], graph: OpGraph | None) -> Iterator[Finding]:
    """Integer and float64 inputs, control flow, and results whose number depends on the data.

    Args:
        name: of the model, for messages.
        inputs: of the model.
        graph: its ops; None: not known.
    """
    for item in inputs:
        if item.dtype == "float64":
            what = f'input "{item.name}" is float64: edge runtimes have none, and artifacts take float32'
            yield warning("input", what, where=name, hint="export the model with float32 inputs")
        elif not item.dtype.startswith("float"):
            what = f'input "{item.name}" is {item.dtype}: values go in as they are, without [preprocess] and scale'
            yield warning("input", what, where=name)
    if graph is None:
        return
    for kind, ops, form in _FORMS:
        nodes = [f'{op.op} "{op.name}"' for op in graph.ops if op.op in ops and op.is_standard]
        if nodes:
            hint = "export the model without it: with the branch that is meant, a fixed number of steps or of results"
            yield warning(kind, f"{form}: {listed(nodes)}", where=name, hint=hint)


def listed(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def guarded(step: Callable[[], T], kind: Kind, findings: list[Finding], where: str) -> T | None:
    """The result of `step`; when it raises or exits, None and a finding.

    Args:
        step: may run code of the project.
        kind: of the finding.
        findings: receives it.
        where: file that it concerns.
    """
    try:
        return step()
    except EdgecError as error:
        findings.append(finding_of(error, "input" if isinstance(error, InputSpecError) else kind))
    except SystemExit as leave:
        ended = ProjectError(f"code of the project ended the process: sys.exit({leave.code!r})", where=where)
        findings.append(finding_of(ended, kind))
    except Exception as exc:
        words = " ".join(f"{type(exc).__name__}: {exc}".split())[:_LONGEST]
        findings.append(finding_of(ModelError(f"edgec cannot read it ({words})", where=where), kind))
    return None
