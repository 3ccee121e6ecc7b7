"""What the NumPy kernels of `edgec.backends.example.run_npz` compute in int8."""

from __future__ import annotations

from edgec.backends.interface import Capability

CAPABILITIES = (
    Capability(op="conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="depthwise-conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="linear", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor")),
    Capability(op="relu", static_int8=True, dynamic_int8=False, note="within the layer before it, or on its own"),
    Capability(op="max-pool2d", static_int8=True, dynamic_int8=False),
    Capability(op="global-average-pool2d", static_int8=True, dynamic_int8=False, note="keeps its input's qparams"),
    Capability(op="flatten", static_int8=True, dynamic_int8=False),
)
