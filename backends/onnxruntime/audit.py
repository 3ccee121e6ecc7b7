"""The dtype audit: which ops ONNX Runtime really executes, and in what, read from the graph it made of the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgec.backends.interface import OpRecord
from edgec.backends.onnxruntime.capability import (
    CASTS,
    DATA_MOVEMENT,
    DYNAMIC_REASONS,
    FLOAT_PRODUCTS,
    FLOAT_REASONS,
    INTEGER_KERNELS,
    STATIC_REASONS,
)
from edgec.backends.onnxruntime.graph import all_nodes, graphs
from edgec.backends.onnxruntime.origin import Origin, layer_of, origins, plain_name
from edgec.backends.onnxruntime.session import open_session
from edgec.storage.temporary import private_folder
from edgec.target.spec import Precision

if TYPE_CHECKING:
    import onnx

_MADE = {
    "DequantizeLinear": "float32",
    "DynamicQuantizeLSTM": "float32",
    "DynamicQuantizeMatMul": "float32",
    "MatMulIntegerToFloat": "float32",
    "QAttention": "float32",
    "QuantizeLinear": "int8",
    "Shape": "int64",
}
"""dtype of the tensors that an op makes, where it is not that of its first input."""
_UNFUSED = "no integer kernel takes it here: an input or output is not quantized, or its op has none"


_WEIGHT_ONLY: dict[Precision, str] = {"int8-weight-only": "8-bit", "int4-weight-only": "4-bit"}


def executed_ops(file: Path, precision: Precision, kept: Mapping[str, str] | None = None) -> tuple[OpRecord, ...]:
    """The ops of `file` after the runtime's own fusions on this machine, in execution order.

    Casts and (de)quantization are listed with dtype ``cast``.

    Args:
        file: the artifact.
        precision: what it was made for.
        kept: node of the artifact -> why it was left in float.

    Raises:
        UnsupportedError: the runtime refuses the file.
    """
    import onnx

    with private_folder() as folder:
        optimized = Path(folder, "optimized.onnx")
        open_session(file, threads=1, optimized=optimized)
        proto = onnx.load(str(optimized))
    types, origin = _element_types(proto), origins(onnx.load(str(file)))
    stored = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return tuple(
        _record(
            node,
            [types.get(name, "") for name in (*node.input, *node.output)],
            precision,
            origin.get(plain_name(node.name)),
            kept or {},
            bool(stored & {*node.input}),
        )
        for node in all_nodes(proto)
        if node.op_type != "Constant"
    )


def _record(
    node: onnx.NodeProto,
    dtypes: list[str],
    precision: Precision,
    origin: Origin | None,
    kept: Mapping[str, str],
    stored: bool,
) -> OpRecord:
    name, op = node.name, node.op_type
    layer = origin.layer if origin else layer_of(name)
    if op in INTEGER_KERNELS:
        return OpRecord(name=name, op=op, dtype="int8", layer=layer)
    if op in CASTS:
        return OpRecord(name=name, op=op, dtype="cast", layer=layer)
    floats = [dtype for dtype in dtypes if dtype.startswith("float")]
    dtype = floats[0] if floats else next((item for item in dtypes if item), "unknown")
    reason = ""
    if precision in _WEIGHT_ONLY:
        reason = _weight_only_reason(node, precision, stored)
    elif op not in DATA_MOVEMENT and floats:
        reason = kept.get(origin.node if origin else plain_name(name), "")
        reason = reason or _reason(op, dtype, precision)
    return OpRecord(name=name, op=op, dtype=dtype, layer=layer, reason=reason)


def _weight_only_reason(node: onnx.NodeProto, precision: Precision, stored: bool) -> str:
    """How an op with weights computes: only these are recorded, as all arithmetic is float by design."""
    if node.op_type == "MatMulNBits":
        level = next((item.i for item in node.attribute if item.name == "accuracy_level"), 0)
        how = "inputs rounded to int8 in blocks within the kernel" if level == 4 else "computed in float32"
        return f"weight-only: {_WEIGHT_ONLY[precision]} weights, {how}"
    if node.op_type not in FLOAT_PRODUCTS:
        return ""
    if stored:
        return f"weight-only: {_WEIGHT_ONLY[precision]} weights, dequantized at each run and computed in float32"
    return "its weights stay float32: they are small, not constant, or of a form that is not stored in codes"


def _reason(op: str, dtype: str, precision: Precision) -> str:
    if precision == "fp32" or (precision == "fp16" and dtype == "float16"):
        return ""
    if precision == "fp16":
        return "ONNX Runtime's CPU kernels on this machine compute it in float32"
    own = STATIC_REASONS if precision == "int8" else DYNAMIC_REASONS
    if reason := own.get(op) or FLOAT_REASONS.get(op):
        return reason
    return _UNFUSED if precision == "int8" else "dynamic quantization covers matrix products and LSTM only"


def _element_types(proto: onnx.ModelProto) -> Mapping[str, str]:
    """Tensor name -> dtype, 8-bit integers of either sign as ``int8``.

    The runtime leaves out the types of tensors around its own ops: they are those of what they are made from.
    """
    types: dict[str, str] = {}
    for graph in graphs(proto.graph):
        values = (*graph.value_info, *graph.input, *graph.output)
        types |= {item.name: _dtype(item.type.tensor_type.elem_type) for item in values}
        types |= {item.name: _dtype(item.data_type) for item in graph.initializer}
    for node in all_nodes(proto):
        made = _MADE.get(node.op_type) or next((types[name] for name in node.input if types.get(name)), "")
        for name in node.output:
            types[name] = types.get(name) or made
    return types


def _dtype(code: int) -> str:
    from onnx import TensorProto

    known: dict[int, str] = {
        TensorProto.UNDEFINED: "",
        TensorProto.FLOAT: "float32",
        TensorProto.FLOAT16: "float16",
        TensorProto.DOUBLE: "float64",
        TensorProto.UINT8: "int8",
        TensorProto.INT8: "int8",
    }
    return known[code] if code in known else TensorProto.DataType.Name(code).lower()
