"""Which ops of an ONNX graph TFLite does not support, or computes in float, from the ops alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgec.backends.interface import OpProblem
from edgec.backends.tflite.capability import NO_INT8
from edgec.model.graph_ops import CONTROL_FLOW, GraphOp, producers
from edgec.target.spec import Precision

_TEXT = "TFLite has no builtin op that works on text"
_RANDOM = "its result is random, so no artifact could be checked"
NO_FORM: Mapping[str, str] = {
    "Bernoulli": _RANDOM,
    "ImageDecoder": "TFLite has no builtin op that decodes images",
    "Multinomial": _RANDOM,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "RegexFullMatch": _TEXT,
    "SequenceMap": "neither of the converters has a form of it",
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
}
"""Ops of ONNX that no TFLite program can hold -> why."""
_KNOWN_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Domains of which the converters know ops."""

_FLOAT = "kept in float"
_FUSED = f"{_FLOAT}: TensorFlow's quantizer has no int8 form of the fused op"
_STEPS = "written out step by step: TFLite has no fused op that computes it, so the program grows with its steps"
_BRANCHES = "both branches are computed and one is chosen where they are plain arithmetic; else it may have no form"
_LOOPS = f"{_FLOAT}, if it has a form at all: {NO_INT8['WHILE']}"
_NO_KERNEL = f"{_FLOAT}: TFLite's converter has no int8 form of it"
_STATIC_FLOAT = frozenset(
    {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "CumSum", "DFT", "Det", "Div", "Einsum"}
    | {"Elu", "Erf", "Floor", "LpNormalization", "Mish", "Mod", "Pow", "Reciprocal", "ReduceL1", "ReduceLogSum"}
    | {"ReduceLogSumExp", "ReduceProd", "RNN", "Round", "STFT", "Selu", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt"}
    | {"Tan"}
)
"""Arithmetic that becomes ops without an int8 kernel."""
_NOT_DYNAMIC = f"{_FLOAT}: TFLite has no kernel of it for int8 weights with float activations"


def problems(ops: Sequence[GraphOp], precision: Precision) -> Iterator[OpProblem]:
    """The ops that are refused, stay in float, or are written as something else."""
    by_root = _divided_by_roots(ops)
    for op in ops:
        if op.op in NO_FORM and op.is_standard:
            yield OpProblem(node=op.name, op=op.op, reason=NO_FORM[op.op], refused=True)
        elif op.domain not in _KNOWN_DOMAINS:
            reason = f"TFLite has no builtin form of ops of the domain {op.domain}"
            yield OpProblem(node=op.name, op=op.op, reason=reason, refused=True)
        elif op.op in CONTROL_FLOW:
            yield OpProblem(node=op.name, op=op.op, reason=_BRANCHES if op.op == "If" else _LOOPS)
        elif op.inner or op.name in by_root:
            continue
        elif reason := _reason(op, precision):
            yield OpProblem(node=op.name, op=op.op, reason=reason)


def _divided_by_roots(ops: Sequence[GraphOp]) -> set[str]:
    """Names of the divisions by a square root, and of these roots: RSQRT has an int8 kernel."""
    made_by = producers(ops)
    divided: set[str] = set()
    for op in ops:
        root = made_by.get(op.inputs[-1]) if op.op == "Div" and op.inputs else None
        if root is not None and root.op == "Sqrt":
            divided |= {op.name, root.name}
    return divided


def _reason(op: GraphOp, precision: Precision) -> str:
    if op.op == "GRU":
        return _STEPS
    if precision == "int8-dynamic":
        return _NOT_DYNAMIC if op.op == "ConvTranspose" or (op.op == "Conv" and op.axes == 3) else ""
    if precision != "int8" or not op.is_float:
        return ""
    if op.op == "LSTM":
        return _FUSED
    if op.op == "Log":
        return f"{_FLOAT}: {NO_INT8['LOG']}"
    if op.op == "Conv" and op.axes == 3:
        return _NO_KERNEL
    if op.op == "Div" and len(op.inputs) < 2:
        return ""  # by a constant: it becomes a product
    return _NO_KERNEL if op.op in _STATIC_FLOAT else ""
