"""The dtype audit: which ops a TorchScript file executes, and in what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgec.backends.interface import OpRecord
from edgec.passes.coverage import Coverage
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
FLOAT = "kept in float"
"""How the reasons begin that edgec has for keeping an op from torch's quantizer."""
KEPT = f"{FLOAT} by the recipe (sensitive)"
SOFTMAX = f"{FLOAT}: it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
RANGE = f"{FLOAT}: its values are not finite or beyond 1e30 on the calibration samples"
NO_KERNEL = "torch has no quantized kernel for it here"


def is_integer_product(op: OpRecord) -> bool:
    """Whether `op` multiplies matrices in int8."""
    return op.dtype == "int8" and any(part in op.op for part in PRODUCTS)


def executed_ops(scripted: Any, precision: Precision, kept: Mapping[str, str] | None = None) -> tuple[OpRecord, ...]:
    """The ops of a loaded TorchScript module, in execution order; (de)quantization is ``cast``.

    Args:
        scripted: frozen or not.
        precision: what was asked for.
        kept: layers and other calls that edgec keeps in float, and why.
    """
    kept = kept or {}
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
        layer = next((name for name in kept if _is_part(layer, name)), layer)
        record = _record(f"{op}_{number}", space, op, layer, reads_quantized or dynamic, precision)
        records.append(record.model_copy(update={"reason": kept[layer]}) if record.reason and layer in kept else record)
    return tuple(records)


def with_layers(ops: Sequence[OpRecord], coverage: Sequence[Coverage]) -> tuple[OpRecord, ...]:
    """The ops of a file, which knows no layers, with those that were recorded when it was written, op by op."""
    recorded = iter(coverage)
    if sum(bool(op.reason) for op in ops) != len(coverage):
        return tuple(ops)
    records = []
    for op in ops:
        if op.reason:
            item = next(recorded)
            reason = item.reason if item.reason.startswith(FLOAT) else op.reason
            op = op.model_copy(update={"layer": item.subject if item.subject != op.name else "", "reason": reason})
        records.append(op)
    return tuple(records)


def _is_part(scope: str, layer: str) -> bool:
    """Whether `scope` is the layer, a part of its fused module, or the activation that stayed in float with it."""
    from edgec.backends.torch_quant.float_call import activation_of

    return f"{scope}.".startswith((f"{layer}.", f"{activation_of(layer)}."))


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
    if precision == "int8-dynamic" and op != "scaled_dot_product_attention":
        return "torch's dynamic quantization covers Linear, LSTM and GRU only"
    if any(part in op for part in ("lstm", "gru", "rnn")):
        return "torch quantizes recurrent layers dynamically only (precision int8-dynamic)"
    if "conv_transpose" in op:
        return "torch's x86 kernels of quantized transposed convolutions are wrong for some shapes"
    if op == "scaled_dot_product_attention":
        return "torch has no quantized kernel of attention; its projections are layers of their own"
    if op == "linear" or "attention" in op:
        return (
            "part of an nn.MultiheadAttention with masks or whose weights are read, which torch has as one float layer"
        )
    if op in ("hardtanh", "relu6"):
        return "torch's quantized clamp scrambles channels-last tensors"
    return NO_KERNEL


def _layer(scope: str) -> str:
    """``__module.blocks/__module.blocks.0`` -> ``blocks.0``."""
    return scope.rpartition("/")[2].removeprefix("__module").strip(".")
