"""Which nodes static quantization must leave in float although their op has an 8-bit kernel, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.onnxruntime.calibrate import Range, unusable
from edgec.backends.onnxruntime.capability import STATIC_OPS
from edgec.backends.onnxruntime.graph import constants, producers

if TYPE_CHECKING:
    import onnx

SOFTMAX_REASON = "kept in float: it makes softmax's argument, where a mask's magnitude would eat all 256 steps"
RANGE_REASON = "kept in float: its values are not finite or beyond 1e30 on the calibration samples"
CLIP_REASON = "kept in float: its bounds exclude zero, so saturation cannot do the clamping"


def nodes_to_exclude(proto: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Node name -> why it stays in float, for nodes of ops that would otherwise be quantized."""
    found: dict[str, str] = {}
    known = constants(proto)
    bad = unusable(ranges) | {
        name
        for name, value in known.items()
        if value.dtype.kind == "f" and value.size and not (np.abs(value) <= 1e30).all()
    }
    candidates = [node for node in proto.graph.node if node.op_type in STATIC_OPS]
    for node in candidates:
        if bad & {*node.input, *node.output}:
            found[node.name] = RANGE_REASON
        elif node.op_type == "Clip" and _excludes_zero(node, known):
            found[node.name] = CLIP_REASON
    for name in _softmax_arguments(proto):
        found.setdefault(name, SOFTMAX_REASON)
    return found


def _excludes_zero(node: onnx.NodeProto, known: Mapping[str, np.ndarray]) -> bool:  # type: ignore[type-arg]
    """Whether 0 lies outside the clamp, or its bounds are computed. Quantized ranges always hold 0."""
    low, high = [*node.input, "", ""][1:3]
    if any(bound and bound not in known for bound in (low, high)):
        return True
    return bool((low and known[low] > 0) or (high and known[high] < 0))


def _softmax_arguments(proto: onnx.ModelProto) -> list[str]:
    """Elementwise nodes between a softmax and the matrix product (or whatever else) before it."""
    made_by = producers(proto)
    pending = [node.input[0] for node in proto.graph.node if node.op_type in ("Softmax", "LogSoftmax")]
    found: dict[str, None] = {}
    while pending:
        node = made_by.get(pending.pop())
        if node is None or node.op_type not in ("Add", "Mul", "Sub", "Div", "Where", "Reshape", "Transpose"):
            continue
        if node.name not in found:
            found[node.name] = None
            pending.extend(node.input)
    quantizable = {node.name for node in proto.graph.node if node.op_type in STATIC_OPS}
    return [name for name in found if name in quantizable]
