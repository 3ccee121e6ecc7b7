"""The model: whether it can be loaded, and what of its form needs a word."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Opened:
    """What is known of a model."""

    inputs: tuple[TensorSpec, ...] = ()
    settled: bool = False
    """Whether `inputs` are all inputs of the model."""
    open_inputs: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    """Inputs whose shape nobody states -> their dims."""
    outputs: tuple[TensorSpec, ...] = ()
    """Empty where they are not known."""
    model: FloatModel | None = None
    """Ready to be run; of an ONNX file without a torch graph."""
    graph: OpGraph | None = None
    findings: list[Finding] = field(default_factory=list)


def open_model(spec: ModelSpec, root: Path) -> Opened:
    """Load a model as far as it goes, and find what is wrong with it."""
    stated = tuple(TensorSpec.of(item) for item in spec.inputs)
    opened = Opened(stated, bool(stated))
    if spec.path is None:
        return opened  # the plan tells it
    name = spec.path
    file = (split_entry(name) or (name, ""))[0]
    path = guarded(lambda: existing(root, file), "model", opened.findings, file)
    weights = spec.weights
    if weights is not None and guarded(lambda: existing(root, weights), "model", opened.findings, weights) is None:
        spec = spec.model_copy(update={"weights": None})  # the rest of it is looked at without
    if path is None:
        return opened
    loader = guarded(lambda: loader_of(path, file), "model", opened.findings, name)
    if loader is None:
        return opened
    if loader.survey is not None and not (spec.weights or spec.arguments):
        return _surveyed(loader.survey, model_file(spec, root), opened)
    opened.model = guarded(lambda: load_model(spec, root), "model", opened.findings, name)
    if opened.model is not None:
        opened.inputs, opened.outputs, opened.settled = opened.model.inputs, opened.model.outputs, True
        if opened.model.graph is not None:
            graph, inputs = opened.model.graph, opened.inputs
            opened.graph = guarded(lambda: ops_of_graph(graph, inputs), "model", opened.findings, name)
        opened.findings += of_loaded(opened.model)
    if spec.weights != weights:
        opened.findings = [item for item in opened.findings if NO_WEIGHTS not in item.what]
        opened.model = None  # its answers would be those of random weights
    opened.findings += of_form(name, opened.inputs, opened.graph)
    return opened


def _surveyed(survey: Callable[[ModelFile], ModelSurvey], file: ModelFile, opened: Opened) -> Opened:
    known = guarded(lambda: survey(file), "model", opened.findings, file.name)
    if known is None:
        return opened
    opened.inputs, opened.settled = known.inputs, known.settled
    opened.open_inputs, opened.outputs = known.open_inputs, known.outputs
    opened.model, opened.graph = known.model, known.graph
    opened.findings += [
        finding_of(error, "input" if isinstance(error, InputSpecError) else "model") for error in known.problems
    ]
    opened.findings += [warning("model", note, where=file.name) for note in known.notes]
    opened.findings += of_form(file.name, known.inputs, known.graph)
    return opened


def of_loaded(model: FloatModel) -> Iterator[Finding]:
    """What loading assumed, and why there is no graph."""
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
    """Inputs of integers, control flow, and results whose number depends on the data."""
    for item in inputs:
        if item.dtype == "float64":
            what = f'input "{item.name}" is float64: edge runtimes have none, and artifacts take float32'
            yield warning("input", what, where=name, hint="export the model with float32 inputs")
        elif not item.dtype.startswith("float"):
            what = f'input "{item.name}" is {item.dtype}: values go in as they are, without [preprocess] and scale'
            yield warning("input", what, where=name)
    if graph is None:
        return
    for kind, ops, told in _FORMS:
        nodes = [f'{op.op} "{op.name}"' for op in graph.ops if op.op in ops and op.is_standard]
        if nodes:
            hint = "export the model without it: with the branch that is meant, a fixed number of steps or of results"
            yield warning(kind, f"{told}: {listed(nodes)}", where=name, hint=hint)


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many there are more."""
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def guarded(step: Callable[[], T], kind: Kind, findings: list[Finding], where: str) -> T | None:
    """What `step` gives; None, and a finding, when it fails, whatever code of the project does in it."""
    try:
        return step()
    except EdgecError as error:
        findings.append(finding_of(error, "input" if isinstance(error, InputSpecError) else kind))
    except SystemExit as leave:
        ended = ProjectError(f"code of the project ended the process: sys.exit({leave.code!r})", where=where)
        findings.append(finding_of(ended, kind))
    except Exception as exc:
        words = " ".join(f"{type(exc).__name__}: {exc}".split())[:_LONGEST]
        findings.append(finding_of(ModelError(f"edgec cannot look at it ({words})", where=where), kind))
    return None
