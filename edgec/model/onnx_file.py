"""ONNX files: checking them, their input specs, fixing their dims, running them for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgec.errors import BackendUnavailableError, InputSpecError, ModelError
from edgec.model.spec import Array, DType, TensorSpec

_DTYPES: dict[int, DType] = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}
"""TensorProto.DataType -> dtype."""


def require_onnx() -> None:
    """Raises BackendUnavailableError when the packages that read ONNX are not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as exc:
        raise BackendUnavailableError(
            f"reading ONNX needs the package {exc.name}", hint="pip install 'edgec[onnx]'"
        ) from None


def read_checked(path: Path) -> Any:
    """The ModelProto in `path`, checked; external tensor data stays outside.

    Raises:
        ModelError: not ONNX, invalid, or its external data is missing or outside its folder.
    """
    require_onnx()
    import onnx

    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as exc:
        raise ModelError("not an ONNX model", where=path.name, hint=str(exc).splitlines()[0]) from exc
    if not proto.graph.node and not proto.graph.output:
        raise ModelError("not an ONNX model: it has no graph", where=path.name)
    for name in external_files(proto):
        file = (path.parent / name).resolve()
        if not file.is_relative_to(path.parent.resolve()):
            raise ModelError(f"external data outside the model's folder: {name}", where=path.name)
        if not file.is_file():
            raise ModelError(f"external data is missing: {name}", where=path.name)
    try:
        onnx.checker.check_model(str(path))
    except Exception as exc:
        raise ModelError(f"invalid ONNX: {str(exc).strip().splitlines()[0]}", where=path.name) from exc
    return proto


def external_files(proto: Any) -> list[str]:
    """Files with tensor data that the model refers to, relative to it."""
    names = {
        entry.value
        for tensor in _tensors(proto.graph)
        if tensor.data_location == 1  # TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(names)


def _tensors(graph: Any) -> list[Any]:
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node or inner.initializer:
                    found += _tensors(inner)
    return found


def graph_inputs(proto: Any) -> list[Any]:
    """The inputs a caller must feed (initializers are listed as inputs too in old files)."""
    constants = {item.name for item in proto.graph.initializer}
    return [item for item in proto.graph.input if item.name not in constants]


def dims_of(value: Any) -> list[int | str]:
    """Dims of a ValueInfo; a name (or ``?``) for one that is not fixed."""
    return [
        dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else dim.dim_param or "?"
        for dim in value.type.tensor_type.shape.dim
    ]


def input_specs(proto: Any, stated: Sequence[TensorSpec], name: str) -> tuple[TensorSpec, ...]:
    """The input specs of the file, with `stated` ones for dims that are not fixed (a symbolic batch is 1).

    Raises:
        InputSpecError: `stated` contradicts the file, or a symbolic dim is not stated.
    """
    given = {spec.name: spec for spec in stated}
    inputs = graph_inputs(proto)
    names = [item.name for item in inputs]
    if unknown := sorted(set(given) - set(names)):
        raise InputSpecError(f"no input named {', '.join(unknown)}", where=name, hint=f"it has: {', '.join(names)}")
    specs = []
    for item in inputs:
        code = item.type.tensor_type.elem_type
        if code not in _DTYPES:
            raise InputSpecError(
                f'input "{item.name}" has a dtype edgec does not feed (ONNX type {code})',
                where=name,
                hint="export the model with float32 inputs",
            )
        dims = dims_of(item)
        if dims and isinstance(dims[0], str) and item.name not in given:
            dims[0] = 1
        specs.append(merge(item.name, dims, _DTYPES[code], given.get(item.name), name))
    return tuple(specs)


def merge(name: str, dims: Sequence[int | str], dtype: DType, stated: TensorSpec | None, where: str) -> TensorSpec:
    """One input's spec from what the file fixes and what the project states.

    Raises:
        InputSpecError: they contradict each other, or a dim is left open.
    """
    expected = f"{dtype}[{', '.join(map(str, dims))}]"
    if stated is None:
        if any(isinstance(dim, str) for dim in dims):
            raise InputSpecError(
                f'input "{name}" is {expected}: the shape is not fixed',
                where=where,
                hint=f'state it: [[model.inputs]] name = "{name}", shape = [1, ...]',
            )
        return TensorSpec(name=name, shape=tuple(int(dim) for dim in dims), dtype=dtype)
    fits = len(stated.shape) == len(dims) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(dims, stated.shape, strict=True)
    )
    if not fits or stated.dtype != dtype:
        given = f"{stated.dtype}[{', '.join(map(str, stated.shape))}]"
        raise InputSpecError(f'input "{name}": stated {given}, the model expects {expected}', where=where)
    return stated


def with_fixed_dims(path: Path, specs: Sequence[TensorSpec]) -> Any:
    """The model with its inputs at `specs`, all tensor data inside, and shapes inferred anew."""
    import onnx

    proto = onnx.load(path)
    shapes = {spec.name: spec.shape for spec in specs}
    changed = False
    for item in graph_inputs(proto):
        for dim, size in zip(item.type.tensor_type.shape.dim, shapes[item.name], strict=True):
            if dim.dim_value != size:
                dim.dim_value, changed = size, True
    if changed:
        del proto.graph.value_info[:]
        for item in proto.graph.output:
            item.type.tensor_type.ClearField("shape")
        proto = onnx.shape_inference.infer_shapes(proto)
    return proto


def run(path: Path | bytes, specs: Sequence[TensorSpec], arrays: Sequence[Array]) -> list[tuple[str, Array]]:
    """Outputs of an ONNX model in ONNX Runtime, unoptimized and on one thread.

    Raises:
        Exception: whatever the runtime raises.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    source = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
    names = [item.name for item in session.get_outputs()]
    return list(zip(names, session.run(names, feed), strict=True))
