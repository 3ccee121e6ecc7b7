"""What TFLite's CPU kernels do in 8 bits, as tables: the audit and ``edgec backends`` read these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from edgec.backends.interface import Capability

WEIGHTED = frozenset(
    {
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "EMBEDDING_LOOKUP",
        "FULLY_CONNECTED",
        "LSTM",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)
"""Ops that hold weights: the only ones that dynamic quantization touches (and of these not all)."""

DYNAMIC_INT8 = WEIGHTED - {"CONV_3D", "TRANSPOSE_CONV", "BIDIRECTIONAL_SEQUENCE_LSTM"}
"""Weighted ops with a hybrid kernel: int8 weights, activations quantized as they come."""

STATIC_INT8 = frozenset(
    {
        "ABS",
        "ADD",
        "ARG_MAX",
        "ARG_MIN",
        "AVERAGE_POOL_2D",
        "BATCH_MATMUL",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "EQUAL",
        "EXP",
        "FULLY_CONNECTED",
        "GELU",
        "GREATER",
        "GREATER_EQUAL",
        "HARD_SWISH",
        "L2_NORMALIZATION",
        "LEAKY_RELU",
        "LESS",
        "LESS_EQUAL",
        "LOGISTIC",
        "LOG_SOFTMAX",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "MUL",
        "NOT_EQUAL",
        "PRELU",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RSQRT",
        "SOFTMAX",
        "SQUARED_DIFFERENCE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
"""Arithmetic ops with an int8 kernel."""

NO_ARITHMETIC = frozenset(
    {
        "BATCH_TO_SPACE_ND",
        "BROADCAST_ARGS",
        "BROADCAST_TO",
        "CAST",
        "CONCATENATION",
        "DEPTH_TO_SPACE",
        "DEQUANTIZE",
        "EXPAND_DIMS",
        "FILL",
        "GATHER",
        "GATHER_ND",
        "ZEROS_LIKE",
        "MIRROR_PAD",
        "PACK",
        "PAD",
        "PADV2",
        "QUANTIZE",
        "RESHAPE",
        "RESIZE_NEAREST_NEIGHBOR",
        "REVERSE_V2",
        "SCATTER_ND",
        "SELECT",
        "SELECT_V2",
        "SHAPE",
        "SLICE",
        "SPACE_TO_BATCH_ND",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TILE",
        "TRANSPOSE",
        "UNPACK",
    }
)
"""Data movement and changes of dtype: their dtype says nothing about precision."""

MIN_DYNAMIC_ELEMENTS = 1024
"""Smaller weights stay float in dynamic quantization: quantizing activations would cost more than it saves."""

_BOTH: tuple[Literal["per-channel", "per-tensor"], ...] = ("per-channel", "per-tensor")
_TENSOR: tuple[Literal["per-channel", "per-tensor"], ...] = ("per-tensor",)

_STORED = "weight-only: stored in 8- or 4-bit codes, dequantized when loaded, computed in float32"

CAPABILITIES = (
    Capability(op="conv2d", static_int8=True, dynamic_int8=True, weights=_BOTH, note=_STORED),
    Capability(op="depthwise-conv2d", static_int8=True, dynamic_int8=True, weights=_BOTH, note=_STORED),
    Capability(
        op="linear",
        static_int8=True,
        dynamic_int8=True,
        weights=_BOTH,
        note="dynamic: per-tensor where tflite-runtime must run it, which refuses per-channel weights there; "
        + _STORED,
    ),
    Capability(op="transposed-conv2d", static_int8=True, dynamic_int8=False, weights=_BOTH, note=_STORED),
    Capability(op="matmul", static_int8=True, dynamic_int8=False, weights=_TENSOR),
    Capability(
        op="lstm",
        static_int8=False,
        dynamic_int8=True,
        weights=_TENSOR,
        note="a fused op that starts each run from zero, float32 in static int8; a GRU, and an LSTM whose states are "
        "given or asked for, are written out step by step",
    ),
    Capability(op="attention", static_int8=True, dynamic_int8=True, weights=_BOTH, note="as its linear and matmul ops"),
    Capability(op="layer-norm", static_int8=True, dynamic_int8=False, note="as elementwise ops, each rounded to int8"),
    Capability(op="erf-gelu", static_int8=False, dynamic_int8=False, note="stays float32 unless fused into GELU"),
)

NO_INT8: Mapping[str, str] = {
    "BIDIRECTIONAL_SEQUENCE_LSTM": "TensorFlow's quantizer has no int8 form of this fused op",
    "LOG": "tflite-runtime has no int8 kernel of it (version 2), and 256 steps are too few for its argument",
    "REVERSE_V2": "TensorFlow's quantizer gives its two sides different scales, while the kernel copies codes",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "TensorFlow's quantizer has no int8 form of this fused op",
    "WHILE": "the tensors of a loop cannot be observed, so they have no ranges",
}
"""Op that stays float in an int8 program -> why.

REVERSE_V2 in int8 would let the two directions of a recurrent layer not fit together (9 dB instead of 36).
"""
