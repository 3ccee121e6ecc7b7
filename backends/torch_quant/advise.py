"""Which ops of a graph torch's quantized kernels do not support, from the ops alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgec.backends.interface import Capability, OpProblem
from edgec.backends.torch_quant.unsupported import PRELU
from edgec.model.graph_ops import CONTROL_FLOW, GraphOp, after
from edgec.model.onnx_torch.refused import NOT_CONVERTED, REFUSED
from edgec.target.spec import Precision

_FLOAT = "kept in float"
_RECURRENT = f"{_FLOAT}: torch quantizes recurrent layers dynamically only (precision int8-dynamic)"
_RNN = f"{_FLOAT}: torch has no int8 kernel of a plain RNN"
_LOOPS = "a loop is written out step by step where the number of its steps is fixed, up to 256; else there is no graph"
_BRANCHES = "both branches are computed, and one result is chosen: they must have equal shapes"
_NOT_DYNAMIC = f"{_FLOAT}: torch's dynamic quantization covers Linear, LSTM and GRU only"
_NO_KERNEL = f"{_FLOAT}: torch has no quantized kernel of it"

_STATIC = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "Elu", "Gemm"}
    | {"GlobalAveragePool", "HardSigmoid", "HardSwish", "InstanceNormalization", "LayerNormalization", "LeakyRelu"}
    | {"MatMul", "MaxPool", "Mul", "ReduceMean", "Relu", "Resize", "Sigmoid", "Tanh", "Upsample"}
)
"""Arithmetic with a quantized kernel."""
_MOVES = frozenset(
    {"Cast", "ConstantOfShape", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND"}
    | {"Identity", "Pad", "Range", "Reshape", "Shape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze", "Where"}
)
_PRODUCTS = frozenset(
    {"Attention", "Bilinear", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"}
)
_DYNAMIC = frozenset({"Attention", "GRU", "Gemm", "LSTM", "MatMul"})
_BY_NORM = frozenset({"Conv", "ConvTranspose", "Gemm"})


def problems(
    ops: Sequence[GraphOp], precision: Precision, backend: str, capabilities: Sequence[Capability]
) -> Iterator[OpProblem]:
    """The ops that are refused or stay in float.

    Args:
        ops: of the float model.
        precision: of the target.
        backend: ``fbgemm`` or ``qnnpack``.
        capabilities: the backend's table.
    """
    table = {item.op: item for item in capabilities}
    folded = {op.name for op in after(ops, "BatchNormalization", _BY_NORM)}
    for op in ops:
        if reason := _refusal(op):
            yield OpProblem(node=op.name, op=op.op, reason=reason, refused=True)
        elif op.op in CONTROL_FLOW:
            yield OpProblem(node=op.name, op=op.op, reason=_BRANCHES if op.op == "If" else _LOOPS)
        elif op.inner or op.name in folded or not op.is_float:
            continue
        elif reason := _float(op, precision, backend, table):
            yield OpProblem(node=op.name, op=op.op, reason=reason)


def _refusal(op: GraphOp) -> str:
    if not op.is_standard:
        return f"edgec has no torch form of ops of the domain {op.domain}"
    if op.op in NOT_CONVERTED:
        return "edgec has no torch form of it"
    return REFUSED.get(op.op, "")


def _float(op: GraphOp, precision: Precision, backend: str, table: dict[str, Capability]) -> str:
    if precision == "int8-dynamic":
        return _NOT_DYNAMIC if op.op in _PRODUCTS - _DYNAMIC else ""
    if precision != "int8":
        return ""
    if op.op in ("LSTM", "GRU"):
        return _RECURRENT
    if op.op == "RNN":
        return _RNN
    if op.op == "PRelu":
        return PRELU
    if op.op == "ConvTranspose" and not table["conv-transpose2d"].static_int8:
        return f"{_FLOAT}: {table['conv-transpose2d'].note.removeprefix('stays float32: ')}"
    if op.op in ("Conv", "ConvTranspose", "MaxPool") and op.axes == 3 and backend == "qnnpack":
        return f"{_FLOAT}: qnnpack has no kernel of it over three axes"
    if op.op == "Attention":
        return f"{_FLOAT}: {table['attention'].note}"
    if op.op == "Resize" and op.mode not in ("", "nearest", "linear"):
        return f"{_FLOAT}: torch has no int8 kernel of {op.mode} interpolation"
    return "" if op.op in _STATIC | _MOVES else _NO_KERNEL
