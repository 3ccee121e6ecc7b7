"""The content of an ONNX file and all its problems, without converting it: each check runs whatever the others give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from edgec.errors import EdgecError, ModelError
from edgec.model import onnx_file
from edgec.model.exported import dtype_of
from edgec.model.formats.interface import ModelFile
from edgec.model.graph_ops import GraphOp, OpGraph
from edgec.model.onnx_floats import in_float32
from edgec.model.onnx_inputs import settled_inputs
from edgec.model.samples import sample_arrays
from edgec.model.spec import FloatModel, ModelSource, TensorSpec
from edgec.model.survey import ModelSurvey
from edgec.storage.files import sha256_of

_FLOATS = frozenset({1, 10, 11, 16})
_INTEGERS = frozenset({"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "TopK"})
"""Ops whose result is of integers where shape inference says nothing."""
_BYTES = {1: 4, 10: 4, 11: 4, 16: 4, 6: 4, 7: 8, 12: 4, 13: 8, 5: 2, 4: 2}
"""TensorProto.DataType -> bytes of an element, of floats in float32."""
_SPATIAL = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize", "Upsample"})


def survey(file: ModelFile) -> ModelSurvey:
    """Look at an ONNX file, and run a made-up sample through it where nothing is wrong.

    Raises:
        BackendUnavailableError: the packages that read ONNX are not installed.
    """
    path, name = file.path, file.name
    stated: Sequence[TensorSpec] = file.stated
    onnx_file.require_onnx()
    import onnx

    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as exc:
        hint = (str(exc).splitlines() or [type(exc).__name__])[0]
        return ModelSurvey((ModelError("not an ONNX model", where=name, hint=hint),))
    if not proto.graph.node and not proto.graph.output:
        return ModelSurvey((ModelError("not an ONNX model: it has no graph", where=name),))
    problems: list[EdgecError] = list(_whole(path, proto, name))
    whole = not problems
    try:
        onnx_file.refuse_quantized(proto, name)
    except ModelError as error:
        problems.append(error)
    notes: tuple[str, ...] = ()
    if whole:
        try:
            converted = in_float32(path, proto, name)
        except ModelError as error:
            problems.append(error)
            converted = None
        if converted is not None:
            path, notes = converted.path, (converted.note,)
            proto = onnx.load(path, load_external_data=False)
            stated = tuple(converted.restated(item) for item in stated)
    specs, unsettled = settled_inputs(proto, stated, name)
    problems += unsettled
    fed = onnx_file.graph_inputs(proto)
    inputs = tuple(specs[item.name] for item in fed if item.name in specs)
    surveyed = ModelSurvey(
        tuple(problems), notes, inputs, len(inputs) == len(fed),
        {item.name: tuple(onnx_file.dims_of(item)) for item in fed if item.name not in specs},
        _declared_outputs(proto),
        graph_of(_with_shapes(proto, inputs if whole and len(inputs) == len(fed) else None)),
    )  # fmt: skip
    return surveyed if problems else _run(surveyed, path, name)


def _whole(path: Path, proto: Any, name: str) -> Iterator[EdgecError]:
    """Problems of the file itself: tensor data that is missing, and what ONNX's checker says."""
    import onnx

    missing = False
    for file in onnx_file.external_files(proto):
        place = (path.parent / file).resolve()
        if not place.is_relative_to(path.parent.resolve()):
            yield ModelError(f"external data outside the model's folder: {file}", where=name)
        elif not place.is_file():
            hint = f"copy {file} beside the model: the exporter wrote the weights there"
            yield ModelError(f"external data is missing: {file}", where=name, hint=hint)
        else:
            continue
        missing = True
    if missing:
        return
    try:
        onnx.checker.check_model(str(path))
    except Exception as exc:
        yield ModelError(f"invalid ONNX: {(str(exc).strip().splitlines() or [''])[0]}", where=name)


def _with_shapes(proto: Any, specs: Sequence[TensorSpec] | None) -> Any:
    """The model with the shapes of all tensors, where these can be inferred."""
    import onnx

    try:
        fixed = proto if specs is None else onnx_file.fix_dims(proto, specs)
        return onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except Exception:
        return proto  # without shapes less is known, and the checker has reported what is wrong


def read_graph(path: Path, specs: Sequence[TensorSpec]) -> OpGraph:
    """The ops of an ONNX file with its inputs at `specs`."""
    import onnx

    return graph_of(_with_shapes(onnx.load(path, load_external_data=False), specs))


def graph_of(proto: Any) -> OpGraph:
    """The ops of an ONNX model; sizes are of those tensors that its ``value_info`` knows."""
    kinds: dict[str, int] = {}
    sizes: dict[str, int] = {}
    weights: set[str] = set()
    shapes: dict[str, int] = {}
    elements = 0
    for graph in onnx_file.graphs_of(proto.graph):
        for item in graph.initializer:
            weights.add(item.name)
            shapes[item.name] = len(item.dims)
            elements += prod(item.dims) if item.data_type in _FLOATS else 0
        for node in graph.node:
            if node.op_type == "Constant":
                weights.update(node.output)
                elements += sum(prod(i.t.dims) for i in node.attribute if i.t.data_type in _FLOATS)
        for value in (*graph.input, *graph.value_info, *graph.output):
            kind = value.type.tensor_type
            kinds[value.name] = kind.elem_type
            dims = onnx_file.dims_of(value) if kind.HasField("shape") else ["?"]
            if all(isinstance(dim, int) for dim in dims):
                sizes[value.name] = prod(int(dim) for dim in dims) * _BYTES.get(kind.elem_type, 1)
                shapes.setdefault(value.name, len(dims))
    ops = tuple(_ops(proto.graph, kinds, weights, shapes, inner=False))
    return OpGraph(ops, elements, sizes)


def _ops(
    graph: Any, kinds: Mapping[str, int], weights: set[str], shapes: Mapping[str, int], *, inner: bool
) -> Iterator[GraphOp]:
    for number, node in enumerate(graph.node):
        if node.op_type == "Constant":
            continue
        known = kinds.get(node.output[0]) if node.output else None
        attributes = {item.name: item for item in node.attribute}
        bodies = [body for item in node.attribute for body in ([item.g] if item.HasField("g") else item.graphs)]
        ranked = [*node.input[1:2], *node.output[:1]] if "Conv" in node.op_type else [*node.output[:1]]
        yield GraphOp(
            name=node.name or f"{node.op_type}_{number}",
            op=node.op_type,
            domain=node.domain,
            inputs=tuple(name for name in node.input if name and name not in weights),
            outputs=tuple(filter(None, node.output)),
            is_float=known in _FLOATS if known else node.op_type not in _INTEGERS,
            axes=max(next((shapes[name] for name in ranked if name in shapes), 2) - 2, 0)
            if node.op_type in _SPATIAL
            else 0,
            mode=attributes["mode"].s.decode() if "mode" in attributes else "",
            inner=inner,
        )
        for body in bodies:
            yield from _ops(body, kinds, weights, shapes, inner=True)


def _declared_outputs(proto: Any) -> tuple[TensorSpec, ...]:
    """Specs of the outputs with a batch of 1, up to the first with an open size or a dtype that edgec has not."""
    specs = []
    for item in proto.graph.output:
        dims = onnx_file.dims_of(item)
        sizes = [1 if place == 0 and isinstance(dim, str) else dim for place, dim in enumerate(dims)]
        dtype = onnx_file.DTYPES.get(item.type.tensor_type.elem_type)
        if dtype is None or not sizes or any(isinstance(size, str) for size in sizes):
            break
        specs.append(TensorSpec(name=item.name, shape=tuple(int(size) for size in sizes), dtype=dtype))
    return tuple(specs)


def _run(surveyed: ModelSurvey, path: Path, name: str) -> ModelSurvey:
    """The same with a model that a made-up sample was run through, or what ONNX Runtime says."""
    sample = sample_arrays(surveyed.inputs, seed=0)
    try:
        results = onnx_file.run_model(path, surveyed.inputs, sample, name, optimized=True)
        outputs = tuple(
            TensorSpec(name=title, shape=item.shape, dtype=dtype_of(item.dtype, title, name)) for title, item in results
        )
    except EdgecError as error:
        return replace(surveyed, problems=(error,))
    source = ModelSource(format="onnx", path=name, sha256=sha256_of(path))
    return replace(surveyed, outputs=outputs, model=FloatModel(path.stem, source, surveyed.inputs, outputs, onnx=path))
