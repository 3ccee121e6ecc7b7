"""Matrix products: Linear layers where one side is a weight."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, is_constant
from edgec.model.onnx_torch.elementwise import add, mul
from edgec.model.onnx_torch.recorder import Value


def linear(call: Call, value: Value, weight: torch.Tensor, bias: torch.Tensor | None) -> Value:
    """A Linear layer with a weight of [outputs, inputs].

    Args:
        call: the node.
        value: [..., inputs].
        weight: [outputs, inputs].
        bias: [outputs], or None.
    """
    return call.layer(linear_layer(call, weight, bias), value)


def linear_layer(call: Call, weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Module:
    """The layer of `linear`, for more than one call.

    Args:
        call: the node.
        weight: [outputs, inputs].
        bias: [outputs], or None.
    """
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    module: nn.Module = call.weighted(layer, weight=weight, bias=bias)
    return module


def _gemm(call: Call) -> Value:
    left, right, bias = call[0], call[1], call[2]
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.get("transA", 0):
        left = torch.t(left)
    if not call.get("transB", 0):
        right = torch.t(right)
    outputs = right.shape[0]
    if is_constant(right) and not is_constant(left) and right.dtype.is_floating_point:
        plain = bias is None or (is_constant(bias) and bias.numel() in (1, outputs) and bias.shape[-1:] != (1,))
        plain = plain or (is_constant(bias) and bias.numel() == 1)
        own = None if bias is None or not plain else (bias.reshape(-1) * beta).expand(outputs)
        result = linear(call, left, right * alpha if alpha != 1 else right, own)
        return result if plain else add(result, _scaled(bias, beta))
    result = _scaled(torch.matmul(left, torch.t(right)), alpha)
    return result if bias is None else add(result, _scaled(bias, beta))


def _scaled(value: Value, factor: float) -> Value:
    return value if factor == 1 else mul(value, torch.tensor(factor, dtype=value.dtype))


def _mat_mul(call: Call) -> Value:
    left, right = call[0], call[1]
    is_weight = is_constant(right) and not is_constant(left) and right.ndim == 2 and right.dtype.is_floating_point
    if is_weight and left.ndim >= 2:
        return linear(call, left, right.t(), None)
    return torch.matmul(left, right)


CONVERTERS: Mapping[str, Converter] = {
    "Einsum": lambda call: torch.einsum(call.get("equation"), *call.inputs),
    "Gemm": _gemm,
    "MatMul": _mat_mul,
}
"""Op -> converter."""
