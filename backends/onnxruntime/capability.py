"""What ONNX Runtime's CPU kernels do in 8 bits, as tables: the quantizer, the audit and the listing all read these."""

from __future__ import annotations

from typing import Literal

from edgec.backends.interface import Capability
from edgec.target.spec import Device, QuantSpec

WeightCodes = Literal["s8", "s7", "u8"]
"""Signed 8-bit, signed 7-bit (reduced range), or unsigned 8-bit with zero-point 128; all of them symmetric."""

LARGEST_CODE: dict[WeightCodes, int] = {"s8": 127, "u8": 127, "s7": 64}
"""The code of a channel's largest weight, counted from the zero-point."""

Granularity = Literal["per-channel", "per-tensor"]

DynamicCodes = Literal["s8", "s7", "pair"]
"""Signed weights of dynamic linear layers: of 8 bits, of 7, or of 8 in which no two of an output overflow int16."""
DYNAMIC_LIMIT: dict[DynamicCodes, int] = {"s8": 127, "s7": 64, "pair": 127}
"""Largest code."""
LARGEST_PAIR = 128
"""Largest sum of two codes of one sign where products of pairs are added in 16 bits: 255 x 128 fits them."""

STATIC_COMPUTE = ("Conv", "Gemm", "MatMul")
"""Ops with weights (or products of activations) that static quantization makes integer."""
STATIC_ELEMENTWISE = ("Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid")
STATIC_SHAPE = (
    "AveragePool",
    "Concat",
    "Gather",
    "GlobalAveragePool",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
"""Pools, embeddings and data movement, which work on 8-bit tensors as they are."""
STATIC_OPS = (*STATIC_COMPUTE, *STATIC_ELEMENTWISE, *STATIC_SHAPE)

VALUE_PRESERVING = frozenset({"Identity", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Ops whose output has their input's values: one range serves both."""

DYNAMIC_OPS = ("Attention", "Gemm", "LSTM", "MatMul")
"""Convolution is missing on purpose: ConvInteger has no kernel for signed weights."""

INTEGER_KERNELS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMatMul",
        "QLinearMul",
        "QLinearReduceMean",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
    }
)
"""Ops of the executed graph that compute in 8-bit integers."""
INTEGER_PRODUCTS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""Those among them that multiply matrices: without one of these nothing worth the name was quantized."""

FLOAT_PRODUCTS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "LSTM",
        "MatMul",
        "MatMulNBits",
        "RNN",
    }
)
"""Ops that multiply by weights in floating point."""

CASTS = frozenset({"Cast", "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"})
"""Changes of dtype: no arithmetic of the model."""

DATA_MOVEMENT = frozenset(
    {
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Expand",
        "Flatten",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Pad",
        "Range",
        "ReorderInput",
        "ReorderOutput",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
"""Ops without arithmetic: their dtype says nothing about precision."""

FLOAT_REASONS = {
    "BatchNormalization": "no 8-bit kernel; only a BatchNorm right after a convolution is folded away",
    "ConvTranspose": "no 8-bit kernel for transposed convolution",
    "GRU": "no 8-bit kernel for GRU",
    "RNN": "no 8-bit kernel for RNN",
    "Softmax": "kept in float: its argument needs more than 256 steps",
    "LogSoftmax": "kept in float: its argument needs more than 256 steps",
    "LayerNormalization": "no 8-bit kernel for layer normalization",
    "SkipLayerNormalization": "no 8-bit kernel for layer normalization",
    "InstanceNormalization": "no 8-bit kernel for instance normalization",
}
"""Why an op of the executed graph stays in float on int8 targets, where the reason is the op itself."""
STATIC_REASONS = {"LSTM": "no static int8 kernel for LSTM; precision int8-dynamic has one"}
DYNAMIC_REASONS = {
    "Conv": "no dynamic int8 kernel for convolution with signed weights; precision int8 quantizes it",
    "FusedConv": "no dynamic int8 kernel for convolution with signed weights; precision int8 quantizes it",
}

_STORED = "weight-only: stored in codes per channel, dequantized at each run, computed in float32"
_BLOCKS = (
    "weight-only: MatMulNBits with weights in blocks; 4-bit ones are computed in float32, "
    "8-bit ones with activations rounded to int8 inside the kernel"
)

CAPABILITIES = (
    Capability(op="conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor"), note=_STORED),
    Capability(
        op="depthwise-conv2d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor"), note=_STORED
    ),
    Capability(op="conv1d", static_int8=True, dynamic_int8=False, weights=("per-channel", "per-tensor"), note=_STORED),
    Capability(
        op="conv-transpose2d",
        static_int8=False,
        dynamic_int8=False,
        note=f"{FLOAT_REASONS['ConvTranspose']}; {_STORED}",
    ),
    Capability(op="linear", static_int8=True, dynamic_int8=True, weights=("per-channel", "per-tensor"), note=_BLOCKS),
    Capability(op="matmul", static_int8=True, dynamic_int8=True, weights=("per-channel", "per-tensor"), note=_BLOCKS),
    Capability(op="embedding", static_int8=True, dynamic_int8=False, weights=("per-tensor",)),
    Capability(
        op="lstm",
        static_int8=False,
        dynamic_int8=True,
        weights=("per-channel", "per-tensor"),
        note=f"{STATIC_REASONS['LSTM']}; {_STORED}",
    ),
    Capability(op="gru", static_int8=False, dynamic_int8=False, note=f"{FLOAT_REASONS['GRU']}; {_STORED}"),
    Capability(op="rnn", static_int8=False, dynamic_int8=False, note=f"{FLOAT_REASONS['RNN']}; {_STORED}"),
    Capability(
        op="attention",
        static_int8=True,
        dynamic_int8=True,
        weights=("per-channel", "per-tensor"),
        note="matrix products in int8; masks and softmax in float",
    ),
    Capability(op="add", static_int8=True, dynamic_int8=False),
    Capability(op="mul", static_int8=True, dynamic_int8=False),
    Capability(op="relu", static_int8=True, dynamic_int8=False, note="by saturation of the op before it"),
    Capability(op="sigmoid", static_int8=True, dynamic_int8=False),
    Capability(op="pool2d", static_int8=True, dynamic_int8=False),
    Capability(op="concat", static_int8=True, dynamic_int8=False),
    Capability(op="resize", static_int8=True, dynamic_int8=False),
    Capability(op="softmax", static_int8=False, dynamic_int8=False, note=FLOAT_REASONS["Softmax"]),
    Capability(op="layer-norm", static_int8=False, dynamic_int8=False, note=FLOAT_REASONS["LayerNormalization"]),
)


def saturates(device: Device) -> bool:
    """Whether the device's kernels add pairs of u8*s8 products in int16, which overflows with full-range weights.

    x86 without VNNI does. ARM kernels widen before they add, with or without the dot-product instructions.
    """
    return device.adds_int8_in_16_bits


def static_weight_codes(device: Device, quantize: QuantSpec) -> WeightCodes:
    """How static quantization stores weights.

    Where u8*s8 saturates, full-range unsigned weights (zero-point 128) have the same grid and run in the u8*u8
    kernels, which widen first: exact and somewhat slower, where 7 bits would lose a bit of every weight.
    """
    if quantize.reduced_range == "yes":
        return "s7"
    return "u8" if quantize.reduced_range == "auto" and saturates(device) else "s8"


def dynamic_linear_codes(device: Device, quantize: QuantSpec) -> DynamicCodes:
    """How linear layers are stored whose inputs are quantized as the model runs, within a static artifact.

    Unsigned weights, as `static_weight_codes` has them where kernels saturate, would be half as fast there.
    """
    if quantize.reduced_range != "auto":
        return "s7" if quantize.reduced_range == "yes" else "s8"
    if not saturates(device):
        return "s8"
    return "pair" if quantize.weights == "per-channel" else "s7"


def dynamic_weight_codes(device: Device, quantize: QuantSpec) -> Literal["s8", "s7"]:
    """How dynamic quantization stores weights: signed; in 7 bits where the kernels saturate."""
    if quantize.reduced_range != "auto":
        return "s7" if quantize.reduced_range == "yes" else "s8"
    return "s7" if saturates(device) else "s8"
