"""A FloatModel of a torch module: a sample is run, and the graph captured where that is possible."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from edgec.errors import EdgecError, InputSpecError, ModelError
from edgec.model import onnx_file
from edgec.model.outputs import flatten_outputs, is_flat, numbers_left_out, tensors_of
from edgec.model.samples import close, sample_tensors
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import NO_FUNCTION, Call, Traced, explain, trace
from edgec.project.spec import DType
from edgec.storage.temporary import private_folder

if TYPE_CHECKING:
    import torch

Graph = Callable[[FloatModel, Sequence["torch.Tensor"], Sequence["torch.Tensor"]], Traced]
"""From a model without graph, and two samples, to its graph."""
_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD


def from_python(
    title: str,
    source: ModelSource,
    module: torch.nn.Module,
    specs: tuple[TensorSpec, ...],
    notes: tuple[str, ...],
    where: str,
) -> FloatModel:
    """The FloatModel of a module that the user's code gave; its graph is traced, or captured on the way through ONNX.

    Args:
        title: name of the model.
        source: where it came from.
        module: in any mode; it may be changed.
        specs: inputs in call order, or by the names of forward's parameters.
        notes: what was assumed so far.
        where: the entry, for messages.

    Raises:
        ModelError: it cannot be brought to eval mode, or returns no tensors.
        InputSpecError: it does not accept the inputs.
    """
    call = _call(module, specs, where)
    try:
        module, made = _for_inference(module, call, specs, where)
    except EdgecError:
        raise
    except Exception as exc:
        raise ModelError(f"it cannot be made ready for inference: {explain(exc)}", where=where) from exc

    def graph_of(model: FloatModel, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Traced:
        traced = trace(module, first, second, call)
        if traced.graph is not None or traced.untraceable in NO_FUNCTION:
            return traced
        exported = through_onnx(model, first, second, only_exact=True)
        return exported if exported.graph is not None else traced

    return from_module(title, source, module, specs, notes + made, graph_of=graph_of, where=where, call=call)


def from_module(
    title: str,
    source: ModelSource,
    module: torch.nn.Module,
    specs: tuple[TensorSpec, ...],
    notes: tuple[str, ...],
    *,
    graph_of: Graph,
    where: str,
    call: Call | None = None,
) -> FloatModel:
    """Run a sample through `module` and capture its graph by `graph_of`; arguments are as of `from_python`.

    Args:
        title: name of the model.
        source: where it came from.
        module: in eval mode.
        specs: inputs in call order.
        notes: what was assumed so far.
        graph_of: captures the graph from the model and two samples.
        where: the file, for messages.
        call: how `module` takes its inputs; by position where None.

    Raises:
        ModelError: it returns no tensors.
        InputSpecError: it does not accept the inputs.
    """
    from edgec.model.wrappers import FlatOutputs

    call = call or Call()
    first, second = sample_tensors(specs, seed=0), sample_tensors(specs, seed=1)
    result = _run(module, call, first, specs, where)
    _run(module, call, second, specs, where)
    outputs, renamed = _output_specs(result, specs, where)
    notes = (*notes, *renamed, *numbers_left_out(result))
    flat = module if is_flat(result) and not call.names else FlatOutputs(module, call)
    model = FloatModel(title, source, specs, outputs, module=flat, notes=notes)
    traced = graph_of(model, first, second)
    return replace(model, graph=traced.graph, untraceable=traced.untraceable, module=traced.graph or flat)


def through_onnx(
    model: FloatModel, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], *, only_exact: bool = False
) -> Traced:
    """The graph of a module that cannot be traced, on the way through ONNX.

    Args:
        model: with its `module`.
        first: a sample.
        second: another one.
        only_exact: none when the exporter had to freeze what may depend on the data.
    """

    import torch

    from edgec.model.export_onnx import export_with_notes
    from edgec.model.from_onnx import torch_graph

    assert model.module is not None
    try:
        onnx_file.require_onnx()
        with private_folder() as folder:
            exported = export_with_notes(model, Path(folder) / "model.onnx")
            if exported.frozen and only_exact:
                return Traced(None, f"its ONNX export is not exact: {exported.frozen[0]}")
            proto = onnx_file.with_fixed_dims(exported.path, model.inputs)
    except EdgecError as error:
        return Traced(None, f"no graph can be made of a {model.source.format} file here: {error.what}")
    samples = []
    for sample in (first, second):
        with torch.no_grad():
            outputs = [item.numpy() for item in tensors_of(model.module(*[one.clone() for one in sample]))]
        samples.append(([item.numpy() for item in sample], outputs))
    return torch_graph(proto, samples)


def _call(module: torch.nn.Module, specs: Sequence[TensorSpec], where: str) -> Call:
    """By position; by name where the stated names are parameters in another order, or with others between."""
    try:
        parameters = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # compiled code has none
        return Call()
    names = [item.name for item in specs]
    order = [name for name, item in parameters.items() if item.kind in (item.POSITIONAL_ONLY, _EITHER)]
    named = {name for name, item in parameters.items() if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)}
    if order[: len(names)] == names or not set(names) <= named:
        return Call()
    if any(parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY for name in names):
        raise InputSpecError(
            f"inputs are stated as {', '.join(names)}, but forward takes {', '.join(parameters)} by position",
            where=where,
            hint="state the inputs in call order, without gaps; wrap the model when one must be left out",
        )
    return Call(tuple(names))


def _for_inference(
    module: torch.nn.Module, call: Call, specs: tuple[TensorSpec, ...], where: str
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """`module` on the CPU, in eval mode and float32, with plain weights and settled shapes; also gives notes."""
    import torch

    from edgec.model import plain
    from edgec.model.cells import has_cells, with_plain_cells

    module.cpu()
    module.eval()
    sample = sample_tensors(specs, seed=0)
    notes = plain.materialize(module, lambda: _run(module, call, sample, specs, where))
    dtypes = {item.dtype for item in [*module.parameters(), *module.buffers()] if item.is_floating_point()}
    if others := sorted(str(item).removeprefix("torch.") for item in dtypes - {torch.float32}):
        notes += (f"parameters in {', '.join(others)} were converted to float32",)
        module.float()
    plain.detach_cached(module)
    if not plain.is_parametrized(module) and not has_cells(module):
        return module, notes
    before, again = (tensors_of(_run(module, call, sample, specs, where)) for _ in range(2))
    notes += plain.remove_parametrizations(module)
    module = with_plain_cells(module)
    after = tensors_of(_run(module, call, sample, specs, where))
    if close(again, before) and not close(after, before):
        raise ModelError(
            "with its parametrized weights and recurrent cells made plain it computes something else",
            where=where,
            hint="remove them in the entry function, by torch.nn.utils.parametrize.remove_parametrizations",
        )
    return module, notes


def _run(
    module: torch.nn.Module, call: Call, sample: Sequence[torch.Tensor], specs: Sequence[TensorSpec], where: str
) -> Any:
    import torch

    try:
        with torch.no_grad():
            return call(module, [item.clone() for item in sample])
    except (EdgecError, KeyboardInterrupt):
        raise
    except BaseException as exc:  # also SystemExit: whatever the user's code does
        given = ", ".join(f"{item.name} {item.dtype}{list(item.shape)}" for item in specs)
        raise InputSpecError(
            f"the model does not accept {given}: {explain(exc)}",
            where=where,
            hint="correct [[model.inputs]] (name, shape with batch axis, dtype, in call order)",
        ) from exc


def _output_specs(
    result: Any, inputs: Sequence[TensorSpec], where: str
) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """Specs of what the model returned, under names that no input has; also gives notes."""
    try:
        named = flatten_outputs(result)
    except ModelError as error:
        raise ModelError(error.what, where=where, hint=error.hint) from error
    taken = {item.name for item in inputs} | {name for name, _ in named}
    specs, notes = [], []
    for name, item in named:
        own = name
        while own in {spec.name for spec in inputs} or (own != name and own in taken):
            own += "_out"
        if own != name:
            taken.add(own)
            notes.append(f'output "{name}" has the name of an input: it is called "{own}"')
        specs.append(TensorSpec(name=own, shape=tuple(item.shape), dtype=_output_dtype(item, name, where)))
    return tuple(specs), tuple(notes)


def _output_dtype(item: torch.Tensor, name: str, where: str) -> DType:
    text = str(item.dtype).removeprefix("torch.")
    if text in get_args(DType):
        return text  # type: ignore[return-value]
    raise ModelError(
        f'output "{name}" is {text}, which edgec does not compare',
        where=where,
        hint="return its real and imaginary part (torch.view_as_real)" if item.is_complex() else "return float32",
    )
