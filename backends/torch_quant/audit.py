"""The dtype audit: which ops a TorchScript file executes, and in what."""

from __future__ import annotations

from typing import Any

from edgec.backend.protocol import OpRecord
from edgec.target.spec import Precision

PRODUCTS = ("conv", "linear", "matmul", "addmm", "bmm", "lstm", "gru", "rnn", "einsum", "attention")
"""Parts of the names of ops that multiply matrices."""
CASTS = frozenset({"quantize_per_tensor", "quantize_per_channel", "dequantize", "to", "type_as"})
DATA_MOVEMENT = frozenset(
    {"flatten", "reshape", "view", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", "cat", "stack"}
    | {
        "slice",
        "select",
        "split",
        "chunk",
        "dropout",
        "expand",
        "detach",
        "size",
        "Int",
        "is_floating_point",
        "clone",
        "t",
        "index",
    }
    | {"embedding", "pad", "constant_pad_nd", "max_pool2d", "narrow", "gather", "zeros", "ones", "zeros_like"}
    | {"pixel_shuffle", "channel_shuffle", "feature_dropout", "ScalarImplicit", "numel", "unflatten", "_shape"}
)
"""Ops without arithmetic."""


def is_integer_product(op: OpRecord) -> bool:
    """Whether `op` multiplies matrices in int8."""
    return op.dtype == "int8" and any(part in op.op for part in PRODUCTS)


def executed_ops(scripted: Any, precision: Precision) -> tuple[OpRecord, ...]:
    """The ops of a loaded TorchScript module, in execution order; (de)quantization is ``cast``."""
    quantized: set[str] = set()
    records = []
    for number, node in enumerate(scripted.inlined_graph.nodes()):
        kind = node.kind()
        space, _, op = kind.partition("::")
        if op == "_convolution":
            op = "conv_transpose" if list(node.inputs())[6].toIValue() else "convolution"
        outputs = [item.debugName() for item in node.outputs()]
        reads_quantized = any(item.debugName() in quantized for item in node.inputs())
        if space == "prim":
            if reads_quantized and op in ("ListConstruct", "TupleConstruct", "ListUnpack", "TupleUnpack"):
                quantized.update(outputs)
            continue
        dynamic = "dynamic" in op or "quantized_lstm" in op or "quantized_gru" in op
        on_quantized = space == "aten" and reads_quantized and op != "dequantize"
        if op == "quantize_per_tensor" or on_quantized or (space == "quantized" and not dynamic):
            quantized.update(outputs)
        layer = _layer(node.scopeName())
        records.append(_record(f"{op}_{number}", space, op, layer, reads_quantized or dynamic, precision))
    return tuple(records)


def _record(name: str, space: str, op: str, layer: str, integer: bool, precision: Precision) -> OpRecord:
    if op in CASTS:
        return OpRecord(name=name, op=op, dtype="cast", layer=layer)
    if space == "quantized" or integer:
        return OpRecord(name=name, op=f"{space}::{op}" if space != "aten" else op, dtype="int8", layer=layer)
    reason = "" if op in DATA_MOVEMENT else _reason(op, precision)
    return OpRecord(name=name, op=op, dtype="float32", layer=layer, reason=reason)


def _reason(op: str, precision: Precision) -> str:
    if precision == "fp32":
        return ""
    if precision == "fp16":
        return "weights are stored in float16; torch computes in float32 on CPUs"
    if precision == "int8-dynamic":
        return "torch's dynamic quantization covers Linear, LSTM and GRU only"
    if any(part in op for part in ("lstm", "gru", "rnn")):
        return "torch quantizes recurrent layers dynamically only (precision int8-dynamic)"
    if "conv_transpose" in op:
        return "torch's x86 kernels of quantized transposed convolutions are wrong for some shapes"
    if op == "linear" or "attention" in op:
        return "part of nn.MultiheadAttention, which torch has as one float layer only"
    return "torch has no quantized kernel for it here"


def _layer(scope: str) -> str:
    """``__module.blocks/__module.blocks.0`` -> ``blocks.0``."""
    return scope.rpartition("/")[2].removeprefix("__module").strip(".")
