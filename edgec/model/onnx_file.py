"""ONNX files: checking them, their input specs, fixing their dims, running them for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgec.errors import BackendUnavailableError, InputSpecError, ModelError
from edgec.model.spec import Array, TensorSpec
from edgec.project.spec import DType

DTYPES: dict[int, DType] = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}
"""TensorProto.DataType -> dtype."""
UNNAMED = "?"
"""Placeholder for a dim that has neither size nor name."""


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
    tensors = []
    for inner in graphs_of(graph):
        tensors += inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
    return tensors


def graphs_of(graph: Any) -> Iterator[Any]:
    """A graph, and those in attributes of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_of(attribute.g)
            for inner in attribute.graphs:
                yield from graphs_of(inner)


def nodes_of(proto: Any) -> Iterator[Any]:
    """All nodes of a model, also those of inner graphs and functions."""
    for graph in graphs_of(proto.graph):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


_QUANTIZED_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    | {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "GatherBlockQuantized"}
    | {"QAttention", "QGemm", "QMoE", "QOrderedMatMul", "MatMulBnb4", "MatMulFpQ4", "QuantizeBFP", "DequantizeBFP"}
)
"""Ops of ONNX and ONNX Runtime that compute with quantized values, besides ``QLinear*``."""


def refuse_quantized(proto: Any, name: str) -> None:
    """Raises ModelError when the model holds quantized values: edgec quantizes float models itself."""
    ops = {node.op_type for node in nodes_of(proto)}
    if quantized := sorted(op for op in ops if op in _QUANTIZED_OPS or op.startswith("QLinear")):
        raise ModelError(
            f"the model is already quantized ({', '.join(quantized)}): give the float model",
            where=name,
            hint="edgec quantizes it for the target; export the model before any quantization tool has changed it",
        )


def graph_inputs(proto: Any) -> list[Any]:
    """The inputs a caller must feed (initializers are listed as inputs too in old files)."""
    constants = {item.name for item in proto.graph.initializer}
    return [item for item in proto.graph.input if item.name not in constants]


def dims_of(value: Any) -> list[int | str]:
    """Dims of a ValueInfo; a name (or ``?``) for one that is not fixed."""
    return [
        dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else dim.dim_param or UNNAMED
        for dim in value.type.tensor_type.shape.dim
    ]


def read_whole(path: Path) -> Any:
    """The ModelProto in `path`, all tensor data inside."""
    import onnx

    return onnx.load(path)


def with_fixed_dims(path: Path, specs: Sequence[TensorSpec]) -> Any:
    """The model with its inputs at `specs`, all tensor data inside, and shapes inferred anew."""
    import onnx

    return fix_dims(onnx.load(path), specs)


def fix_dims(proto: Any, specs: Sequence[TensorSpec]) -> Any:
    """A model with its inputs at `specs`, and shapes inferred anew where that changes them; `proto` may be changed."""
    import onnx

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


def state_output_shapes(proto: Any, specs: Sequence[TensorSpec]) -> None:
    """Write down the shapes of those outputs whose dims are not all known, in place: inference does not find all."""
    from onnx import TensorShapeProto

    for item, spec in zip(proto.graph.output, specs, strict=True):
        kind = item.type.tensor_type
        known = kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim)
        if kind.elem_type and not known:
            dims = [TensorShapeProto.Dimension(dim_value=size) for size in spec.shape]
            kind.shape.CopyFrom(TensorShapeProto(dim=dims))


def run_model(
    path: Path, specs: Sequence[TensorSpec], arrays: Sequence[Array], name: str, *, optimized: bool = False
) -> list[tuple[str, Array]]:
    """`run`, for a model of the user.

    Args:
        path: of the file.
        specs: its inputs, in order.
        arrays: one for each input.
        name: the file as the project names it, for messages.
        optimized: whether ONNX Runtime may optimize the graph.

    Raises:
        ModelError: ONNX Runtime has no kernel for one of its ops.
        InputSpecError: the model does not accept `arrays`.
    """
    try:
        return run(path, specs, arrays, optimized=optimized)
    except Exception as exc:
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0].rpartition("[ONNXRuntimeError] : ")[2]
        if "NOT_IMPLEMENTED" in reason or "is not a registered function/op" in reason:
            raise ModelError(
                f"ONNX Runtime, which edgec judges by, cannot run the model: {reason}",
                where=name,
                hint="export it with ops and an opset that ONNX Runtime knows",
            ) from exc
        given = ", ".join(f"{item.name} {item.dtype}{list(item.shape)}" for item in specs)
        raise InputSpecError(f"ONNX Runtime cannot run the model on {given}: {reason}", where=name) from exc


def run(
    path: Path | bytes, specs: Sequence[TensorSpec], arrays: Sequence[Array], *, optimized: bool = False
) -> list[tuple[str, Array]]:
    """Outputs of an ONNX model in ONNX Runtime on one thread, as the graph is written unless `optimized`.

    Args:
        path: of the file, or its bytes.
        specs: its inputs, in order.
        arrays: one for each input.
        optimized: whether ONNX Runtime may optimize the graph.

    Raises:
        Exception: whatever the runtime raises.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    source = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    feed = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
    names = [item.name for item in session.get_outputs()]
    return list(zip(names, session.run(names, feed), strict=True))
