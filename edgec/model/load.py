"""From the project's ``[model]`` to a FloatModel, without executing code the user did not name."""

from __future__ import annotations

from pathlib import Path

from edgec.errors import InputSpecError, ModelError
from edgec.model import onnx_file
from edgec.model.checkpoint import check_pt2_is_data, kind_of, refuse_checkpoint
from edgec.model.exported import call_of, dtype_of, exported_inputs, refuse_other_floats
from edgec.model.from_module import from_module, from_python, through_onnx
from edgec.model.onnx_inputs import input_specs
from edgec.model.samples import sample_arrays
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.project.spec import ModelSpec
from edgec.storage.files import sha256_of
from edgec.toml_source import suggest


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
    path = existing(root, name)
    weights = existing(root, spec.weights) if spec.weights else None
    stated = tuple(TensorSpec.of(item) for item in spec.inputs)
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


def existing(root: Path, name: str) -> Path:
    """The file `name` in `root`; raises ModelError, with the nearest name, when there is none."""
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
    from edgec.model.python_entry import entry_module, imports_from, plain_python

    source = ModelSource(
        format="python",
        path=name,
        sha256=sha256_of(path),
        entry=function,
        weights=spec.weights,
        weights_sha256=sha256_of(weights) if weights else None,
    )
    with imports_from(path.parent) as imported, plain_python():
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
        return from_python(path.stem, source, module, stated, notes, f"{name}:{function}")


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
    return from_module(path.stem, source, module.eval(), stated, (), graph_of=through_onnx, where=name)


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
    call = call_of(program, name)
    return from_module(path.stem, source, module, specs, (), graph_of=through_onnx, where=name, call=call)


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
    specs = input_specs(proto, stated, name)
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
