"""What torch's quantized CPU kernels can do, as a table."""

from __future__ import annotations

from edgec.backends.interface import Capability

CAPABILITIES = (
    Capability(op="conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="depthwise-conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="conv1d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="conv-transpose2d", static_int8=True, dynamic_int8=False, weights=("per-tensor",)),
    Capability(op="linear", static_int8=True, dynamic_int8=True, weights=("per-channel", "per-tensor")),
    Capability(op="lstm", static_int8=False, dynamic_int8=True, weights=("per-tensor",)),
    Capability(op="gru", static_int8=False, dynamic_int8=True, weights=("per-tensor",)),
    Capability(op="add", static_int8=True, dynamic_int8=False),
    Capability(op="mul", static_int8=True, dynamic_int8=False),
    Capability(op="matmul", static_int8=True, dynamic_int8=False),
    Capability(op="relu", static_int8=True, dynamic_int8=False, note="fused into the op before it"),
    Capability(op="relu6", static_int8=True, dynamic_int8=False, note="by saturation of the op before it"),
    Capability(op="hardswish", static_int8=True, dynamic_int8=False),
    Capability(op="sigmoid", static_int8=True, dynamic_int8=False, note="fixed output range"),
    Capability(op="avg-pool", static_int8=True, dynamic_int8=False),
    Capability(op="layer-norm", static_int8=True, dynamic_int8=False),
    Capability(op="gelu", static_int8=False, dynamic_int8=False, note="computed in float32"),
    Capability(op="silu", static_int8=False, dynamic_int8=False, note="computed in float32"),
    Capability(
        op="attention",
        static_int8=False,
        dynamic_int8=False,
        note="its projections are int8 (linear), the rest is computed in float32; with masks all of it is",
    ),
)
"""Both backends' kernels cover the same ops, but for what `edgec.backends.fbgemm.capability` says."""
