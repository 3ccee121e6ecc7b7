"""Which ops of a graph ONNX Runtime keeps in float, from the ops alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgec.backends.interface import OpProblem
from edgec.backends.onnxruntime.capability import (
    CASTS,
    DATA_MOVEMENT,
    DYNAMIC_OPS,
    DYNAMIC_REASONS,
    FLOAT_PRODUCTS,
    FLOAT_REASONS,
    STATIC_OPS,
    STATIC_REASONS,
)
from edgec.model.graph_ops import CONTROL_FLOW, GraphOp, after
from edgec.target.spec import Precision

_BRANCHES = "what is within it stays in float: the quantizer does not look into branches and loops"
_NO_FORM = "kept in float: ONNX Runtime's quantizer has no 8-bit form of it"
_NOT_DYNAMIC = "kept in float: dynamic quantization covers matrix products and LSTM only"
_IN_PARTS = {
    "Attention": "matrix products in int8; masks and softmax are kept in float",
    "Dropout": "",
    "Gelu": "its error function is kept in float",
    "Mish": "its logarithm is kept in float",
    "Swish": "",
}
"""What exporters write as several ops, or as none -> what of them stays in float."""
_BY_NORM = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""What a BatchNorm behind it is folded into."""


def problems(ops: Sequence[GraphOp], precision: Precision) -> Iterator[OpProblem]:
    """The ops that stay in float."""
    if precision not in ("int8", "int8-dynamic"):
        return
    folded = {op.name for op in after(ops, "BatchNormalization", _BY_NORM)}
    for op in ops:
        if op.inner or op.name in folded:
            continue
        if reason := _control(op) or (_static(op) if precision == "int8" else _dynamic(op)):
            yield OpProblem(node=op.name, op=op.op, reason=reason)


def _control(op: GraphOp) -> str:
    return _BRANCHES if op.op in CONTROL_FLOW else ""


def _static(op: GraphOp) -> str:
    if not op.is_float or op.op in STATIC_OPS or op.op in DATA_MOVEMENT | CASTS:
        return ""
    if op.op in _IN_PARTS:
        return _IN_PARTS[op.op]
    return _reason(op.op, STATIC_REASONS) or _NO_FORM


def _dynamic(op: GraphOp) -> str:
    if op.op not in FLOAT_PRODUCTS or op.op in DYNAMIC_OPS:
        return ""  # all other arithmetic is float by design
    return _reason(op.op, DYNAMIC_REASONS) or _NOT_DYNAMIC


def _reason(op: str, own: Mapping[str, str]) -> str:
    reason = own.get(op) or FLOAT_REASONS.get(op, "")
    return reason if not reason or reason.startswith("kept in float") else f"kept in float: {reason}"
