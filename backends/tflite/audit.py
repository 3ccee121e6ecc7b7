"""In which dtype each op of a TFLite program computes, and why it is not the target's precision."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from edgec.backends.interface import OpRecord
from edgec.backends.tflite.capability import (
    DYNAMIC_INT8,
    MIN_DYNAMIC_ELEMENTS,
    NO_ARITHMETIC,
    NO_INT8,
    STATIC_INT8,
    WEIGHTED,
)
from edgec.passes.coverage import Coverage
from edgec.target.spec import Precision


@dataclass(frozen=True)
class Operand:
    """One tensor an op reads: its dtype and shape, whether it is a constant, and whether it was stored in codes."""

    dtype: str
    shape: tuple[int, ...]
    constant: bool
    stored: bool = False


_STORED: Mapping[Precision, str] = {"int8-weight-only": "8-bit", "int4-weight-only": "4-bit"}
CHOSEN = "kept in float by the recipe (sensitive)"
_NUMBER = re.compile(r":\d+$")


def kept_in_float(layer: str) -> Coverage:
    """The record of a layer that a recipe leaves in float."""
    return Coverage(subject=layer, state="float32", reason=CHOSEN)


def base_name(name: str) -> str:
    """The layer in a tensor name ``<layer>:<number>`` of `layers.name_tensors`; other names as they are."""
    return _NUMBER.sub("", name)


def explain_chosen(
    records: Sequence[OpRecord], coverage: Iterable[Coverage], outputs: Collection[str]
) -> list[OpRecord]:
    """Give the ops of layers that the recipe keeps in float that reason.

    Args:
        records: of all ops.
        coverage: of the artifact, with `kept_in_float` for each such layer.
        outputs: names of the file's outputs; these hide the name of the layer that makes them.
    """
    chosen = {item.subject for item in coverage if item.reason == CHOSEN}
    hidden = chosen - {base_name(item.layer) for item in records}

    def is_chosen(item: OpRecord) -> bool:
        return base_name(item.layer) in chosen or (bool(hidden) and item.layer in outputs)

    return [item.model_copy(update={"reason": CHOSEN}) if item.reason and is_chosen(item) else item for item in records]


def stored_tensors(ops: Iterable[tuple[str, Sequence[int], Sequence[int]]], constants: Collection[int]) -> set[int]:
    """Tensors that are constants dequantized, maybe reshaped.

    Args:
        ops: kind, inputs and outputs of each op, in execution order.
        constants: tensors whose values are in the file.
    """
    stored: set[int] = set()
    for kind, inputs, outputs in ops:
        source = inputs[0] if len(inputs) else -1
        if (kind == "DEQUANTIZE" and source in constants) or (kind == "RESHAPE" and source in stored):
            stored.update(outputs)
    return stored


def audit_op(op: str, layer: str, inputs: Sequence[Operand], output_dtype: str, precision: Precision) -> OpRecord:
    """How one op computes.

    Args:
        op: TFLite's name, e.g. ``CONV_2D``.
        layer: name of the tensor it makes.
        inputs: present inputs, in order.
        output_dtype: dtype of its first output.
        precision: what the target asks for.
    """
    streams = [item for item in inputs if not item.constant] or list(inputs)
    dtype = streams[0].dtype if streams else output_dtype
    hybrid = op in WEIGHTED and dtype == "float32" and any(item.dtype == "int8" for item in inputs)
    dtype = "int8" if hybrid else dtype
    return OpRecord(name=layer, op=op, dtype=dtype, layer=layer, reason=_reason(op, dtype, inputs, precision))


def _reason(op: str, dtype: str, inputs: Sequence[Operand], precision: Precision) -> str:
    if op in NO_ARITHMETIC or dtype != "float32" or precision == "fp32":
        return ""  # integer and boolean arithmetic is index computation, as in the float model
    if precision in _STORED:
        if op not in WEIGHTED:
            return ""  # all arithmetic is float by design: only the storage of weights is recorded
        if any(item.stored for item in inputs):
            return f"weight-only: {_STORED[precision]} weights, dequantized when loaded and computed in float32"
        return "its weights stay float32: they are not constant, or of a form that is not stored in codes"
    if precision == "fp16":
        return "float16 is storage only: TFLite's CPU kernels compute in float32"
    if precision == "int8":
        if op in NO_INT8:
            return NO_INT8[op]
        if op in STATIC_INT8:
            return "left in float: it stands among ops without an int8 kernel, or its values fit no 8-bit scale"
        return f"TFLite's converter has no int8 form of {op}"
    if op not in WEIGHTED:
        return "dynamic quantization covers ops with weights only"
    if op not in DYNAMIC_INT8:
        return f"TFLite has no kernel of {op} for int8 weights with float activations"
    if max((prod(item.shape) for item in inputs if item.constant), default=0) < MIN_DYNAMIC_ELEMENTS:
        return f"weights of fewer than {MIN_DYNAMIC_ELEMENTS} elements stay float"
    return "its weights are not constants of this op"


def coverage_of(records: Iterable[OpRecord]) -> tuple[Coverage, ...]:
    """The ops with a reason, all of which compute in float32; equal ones once with their number.

    Args:
        records: of the ops; layers that a recipe keeps in float are recorded elsewhere.
    """
    counts = Counter((item.op, item.reason) for item in records if item.reason and item.reason != CHOSEN)
    return tuple(
        Coverage(subject=f"{op} ({count} ops)" if count > 1 else op, state="float32", reason=reason)
        for (op, reason), count in sorted(counts.items())
    )
