"""From the project's ``[model]`` to a FloatModel, without executing code the user did not name."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec.errors import EdgecError, InputSpecError, ModelError
from edgec.files import sha256_of
from edgec.model import onnx_file
from edgec.model.checkpoint import check_pt2_is_data, kind_of, refuse_checkpoint
from edgec.model.exported import dtype_of, exported_inputs, refuse_other_floats
from edgec.model.outputs import flatten_outputs, is_flat
from edgec.model.samples import sample_arrays, sample_tensors
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.trace import Traced, explain, trace
from edgec.project.spec import ModelSpec
from edgec.toml_source import suggest

if TYPE_CHECKING:
    import torch


def load_model(spec: ModelSpec, root: Path) -> FloatModel:
    """Load the model of `spec`, run a sample through it, and capture its graph where that is possible.

    Args:
        spec: the project's ``[model]``.
        root: folder that its paths are relative to.

    Raises:
        ModelError: missing, unreadable, not a model, or weights that do not fit it.
        UntrustedModelError: loading the file would execute code.
        InputSpecError: input specs are missing, or the model does not accept them.
    """
    if not spec.path:
        raise ModelError("no model is given", hint="name it: edgec build MODEL, or [model] path in edgec.toml")
    name, _, function = spec.path.partition(":") if ".py:" in spec.path else (spec.path, "", "")
    path = _existing(root, name)
    weights = _existing(root, spec.weights) if spec.weights else None
    stated = tuple(item.tensor() for item in spec.inputs)
    if path.suffix == ".py":
        if not function:
            raise ModelError("a Python file needs a function", where=name, hint=f"{name}:function")
        return _python(path, name, function, spec, weights, stated)
    if weights or spec.arguments:
        given = "weights" if weights else "arguments"
        raise ModelError(
            f"{given} go with a Python entry only", where=name, hint="edgec build file.py:function --weights FILE"
        )
    kind = kind_of(path)
    if kind == "onnx":
        return _onnx(path, name, stated)
    if kind == "pt2":
        return _pt2(path, name, stated)
    if kind == "torchscript":
        return _torchscript(path, name, stated)
    if kind == "checkpoint":
        raise refuse_checkpoint(path)
    raise ModelError(
        "not a model file", where=name, hint="known: file.py:function, .onnx, .pt2 (torch.export), TorchScript .pt"
    )


def _existing(root: Path, name: str) -> Path:
    path = root / name
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        raise ModelError("this is a folder, not a model file", where=name)
    near = [item.name for item in path.parent.iterdir() if item.is_file()] if path.parent.is_dir() else []
    hint = suggest(path.name, near)
    raise ModelError("no such file", where=name, hint=hint or f"looked in {path.parent}")


def _python(
    path: Path,
    name: str,
    function: str,
    spec: ModelSpec,
    weights: Path | None,
    stated: tuple[TensorSpec, ...],
) -> FloatModel:
    from edgec.model.python_entry import entry_module, imports_from

    source = ModelSource(
        format="python",
        path=name,
        sha256=sha256_of(path),
        entry=function,
        weights=spec.weights,
        weights_sha256=sha256_of(weights) if weights else None,
    )
    with imports_from(path.parent) as imported:
        module, notes = entry_module(path, function, spec.arguments, weights)
        folder = Path(name).parent
        digests = {str(folder / file.relative_to(path.parent)): sha256_of(file) for file in imported() if file != path}
        source = source.model_copy(update={"imported": digests})
        if not stated:
            raise InputSpecError(
                "the model's input is not known",
                where=f"{name}:{function}",
                hint='state it: [[model.inputs]] name = "input", shape = [1, ...], or --input input:1x3x224x224',
            )
        module, more = _prepared(module)
        _check_names(module, stated, name)
        return _from_module(path.stem, source, module, stated, notes + more, graph_of=None, where=f"{name}:{function}")


def _prepared(module: torch.nn.Module) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """`module` on the CPU, in eval mode and float32; as a copy where that changes it."""
    import torch

    dtypes = {item.dtype for item in [*module.parameters(), *module.buffers()] if item.is_floating_point()}
    notes: tuple[str, ...] = ()
    if others := sorted(str(item).removeprefix("torch.") for item in dtypes - {torch.float32}):
        notes = (f"parameters in {', '.join(others)} were converted to float32",)
        module = copy.deepcopy(module).float()
    return module.cpu().eval(), notes


def _check_names(module: torch.nn.Module, stated: Sequence[TensorSpec], where: str) -> None:
    """Inputs are passed by position; refuse names that say another order."""
    import inspect

    parameters = list(inspect.signature(module.forward).parameters)
    names = [item.name for item in stated]
    if set(names) <= set(parameters) and names != parameters[: len(names)]:
        raise InputSpecError(
            f"inputs are stated as {', '.join(names)}, but forward takes {', '.join(parameters)}",
            where=where,
            hint="state the inputs in call order, without gaps; wrap the model when one must be left out",
        )


def _torchscript(path: Path, name: str, stated: tuple[TensorSpec, ...]) -> FloatModel:
    import torch

    try:
        module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as exc:
        raise ModelError(f"not a loadable TorchScript file: {str(exc).splitlines()[0]}", where=name) from exc
    if not stated:
        raise InputSpecError(
            "a TorchScript file does not state its input shape",
            where=name,
            hint='state it: [[model.inputs]] name = "input", shape = [1, ...], or --input input:1x3x224x224',
        )
    refuse_other_floats(module, name)
    source = ModelSource(format="torchscript", path=name, sha256=sha256_of(path))
    return _from_module(path.stem, source, module.eval(), stated, (), graph_of=_by_onnx, where=name)


def _pt2(path: Path, name: str, stated: tuple[TensorSpec, ...]) -> FloatModel:
    import torch

    check_pt2_is_data(path)
    try:
        program = torch.export.load(str(path))
    except Exception as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"not a loadable torch.export file: {reason}", where=name) from exc
    specs = exported_inputs(program, stated, name)
    module = program.module()
    refuse_other_floats(module, name)
    source = ModelSource(format="pt2", path=name, sha256=sha256_of(path))
    return _from_module(path.stem, source, module, specs, (), graph_of=_by_onnx, where=name)


def _from_module(
    title: str,
    source: ModelSource,
    module: torch.nn.Module,
    specs: tuple[TensorSpec, ...],
    notes: tuple[str, ...],
    *,
    graph_of: Any,
    where: str,
) -> FloatModel:
    """Run a sample through `module` and capture its graph, by FX or by `graph_of`."""
    import torch

    from edgec.model.wrappers import FlatOutputs

    first, second = sample_tensors(specs, seed=0), sample_tensors(specs, seed=1)
    with torch.no_grad():
        result = _first_result(module, first, specs, where)
    try:
        found = flatten_outputs(result)
        outputs = tuple(
            TensorSpec(name=name, shape=tuple(item.shape), dtype=dtype_of(item.dtype, name, where))
            for name, item in found
        )
    except EdgecError as error:
        raise ModelError(error.what, where=where, hint=error.hint) from error
    flat = module if is_flat(result) else FlatOutputs(module).eval()
    model = FloatModel(title, source, specs, outputs, module=flat, notes=notes)
    traced: Traced = graph_of(model, first, second) if graph_of else trace(module, first, second)
    return replace(model, graph=traced.graph, untraceable=traced.untraceable, module=traced.graph or flat)


def _first_result(
    module: torch.nn.Module, sample: Sequence[torch.Tensor], specs: Sequence[TensorSpec], where: str
) -> Any:
    try:
        return module(*[item.clone() for item in sample])
    except Exception as exc:
        given = ", ".join(f"{item.name} {item.dtype}{list(item.shape)}" for item in specs)
        raise InputSpecError(
            f"the model does not accept {given}: {explain(exc)}",
            where=where,
            hint="correct [[model.inputs]] (name, shape with batch axis, dtype, in call order)",
        ) from exc


def _by_onnx(model: FloatModel, first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> Traced:
    """The graph of an exported or scripted module, on the way through ONNX."""
    import tempfile

    import torch

    from edgec.model.export_onnx import export_onnx
    from edgec.model.from_onnx import torch_graph

    assert model.module is not None
    try:
        onnx_file.require_onnx()
        with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
            file = export_onnx(model, Path(folder) / "model.onnx")
            proto = onnx_file.with_fixed_dims(file, model.inputs)
    except EdgecError as error:
        return Traced(None, f"no graph can be made of a {model.source.format} file here: {error.what}")
    samples = []
    for sample in (first, second):
        with torch.no_grad():
            outputs = [item.numpy() for _, item in flatten_outputs(model.module(*[one.clone() for one in sample]))]
        samples.append(([item.numpy() for item in sample], outputs))
    return torch_graph(proto, samples)


def _onnx(path: Path, name: str, stated: tuple[TensorSpec, ...]) -> FloatModel:
    from edgec.model.from_onnx import torch_graph
    from edgec.model.onnx_floats import in_float32

    proto = onnx_file.read_checked(path)
    onnx_file.refuse_quantized(proto, name)
    external = {
        str(Path(name).parent / item): sha256_of(path.parent / item) for item in onnx_file.external_files(proto)
    }
    source = ModelSource(format="onnx", path=name, sha256=sha256_of(path), imported=external)
    original, notes = path, ()  # type: tuple[Path, tuple[str, ...]]
    converted = in_float32(path, proto, name)
    if converted is not None:
        path, notes = converted.path, (converted.note,)
        proto = onnx_file.read_whole(path)
        stated = tuple(converted.restated(item) for item in stated)
    specs = onnx_file.input_specs(proto, stated, name)
    del proto  # a large model's weights are not to be held twice
    inputs = [sample_arrays(specs, seed=0), sample_arrays(specs, seed=1)]
    results = [onnx_file.run_model(path, specs, sample, name) for sample in inputs]
    outputs = tuple(
        TensorSpec(name=title, shape=item.shape, dtype=dtype_of(item.dtype, title, name)) for title, item in results[0]
    )
    samples = [(sample, [item for _, item in result]) for sample, result in zip(inputs, results, strict=True)]
    if converted is not None:
        converted.check_against(original, specs, samples)
    traced = torch_graph(onnx_file.read_whole(path), samples)
    return FloatModel(
        original.stem, source, specs, outputs, traced.graph, traced.untraceable, traced.graph, path, notes
    )
