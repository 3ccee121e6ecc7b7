"""Activations: layers of torch where it has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of
from edgec.model.onnx_torch.elementwise import clamp, mul
from edgec.model.onnx_torch.recorder import Value


def _layer(build: Callable[[Call], nn.Module]) -> Converter:
    return lambda call: call.layer(build(call), call[0])


def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return call.layer(nn.Hardsigmoid(), call[0])
    return torch.clamp(call[0] * alpha + beta, 0.0, 1.0)


def _prelu(call: Call) -> Value:
    value, slope = call[0], call[1]
    if isinstance(slope, torch.Tensor):
        axes = [index for index, size in enumerate(slope.shape) if size != 1]
        channel = value.ndim - slope.ndim + axes[0] if len(axes) == 1 else None
        if not axes or (channel == 1 and len(axes) == 1):
            return call.layer(call.weighted(nn.PReLU(slope.numel()), weight=slope.reshape(-1)), value)
    return torch.where(torch.lt(value, 0), torch.mul(value, slope), value)


def _shrink(call: Call) -> Value:
    bias, limit = call.get("bias", 0.0), call.get("lambd", 0.5)
    value = call[0]
    zero = torch.zeros((), dtype=value.dtype)
    return torch.where(torch.lt(value, -limit), value + bias, torch.where(torch.gt(value, limit), value - bias, zero))


def _softmax(function: Any) -> Converter:
    def convert(call: Call) -> Value:
        value = call[0]
        if call.opset >= 13:
            return call.layer(function(dim=axis_of(call.get("axis", -1), value.ndim)), value)
        axis = axis_of(call.get("axis", 1), value.ndim)
        if axis == value.ndim - 1:
            return call.layer(function(dim=axis), value)
        # older opsets take all axes from this one on together
        flat = torch.flatten(value, axis)
        return torch.reshape(call.layer(function(dim=axis), flat), list(value.shape))

    return convert


def _hardmax(call: Call) -> Value:
    value = call[0]
    shape = list(value.shape)
    axis = axis_of(call.get("axis", -1 if call.opset >= 13 else 1), value.ndim)
    if call.opset < 13:
        value = torch.flatten(value, axis)
    position = torch.argmax(value, axis, keepdim=True)
    steps = torch.arange(value.shape[axis]).reshape([-1] + [1] * (value.ndim - 1 - axis))
    return torch.reshape(torch.eq(position, steps).to(value.dtype), shape)


def _swish(call: Call) -> Value:
    alpha = call.get("alpha", 1.0)
    if alpha == 1.0:
        return call.layer(nn.SiLU(), call[0])
    return torch.mul(call[0], torch.sigmoid(mul(call[0], torch.tensor(alpha))))


def _selu(call: Call) -> Value:
    alpha, gamma = call.get("alpha", 1.67326319217681884765625), call.get("gamma", 1.05070102214813232421875)
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.0507010) < 1e-6:
        return call.layer(nn.SELU(), call[0])
    return functional.elu(call[0], alpha) * gamma


def _relu(call: Call) -> Value:
    # clamping keeps integers integers
    return call.layer(nn.ReLU(), call[0]) if call[0].dtype.is_floating_point else clamp(call, call[0], 0, None)


def _dropout(call: Call) -> Any:
    value = call[0]
    training = call[2]
    if training is not None and bool(call.constant(2, "training_mode").reshape(())):
        ratio = call.number(1, "ratio", 0.5)
        if ratio != 0:
            raise NoTorchFormError("it is in training mode, so its output is random")
    mask = torch.ones(tuple(value.shape), dtype=torch.bool) if call.wants(1) else None
    return value, mask


CONVERTERS: Mapping[str, Converter] = {
    "Celu": _layer(lambda call: nn.CELU(call.get("alpha", 1.0))),
    "Dropout": _dropout,
    "Elu": _layer(lambda call: nn.ELU(call.get("alpha", 1.0))),
    "Gelu": _layer(lambda call: nn.GELU(approximate=call.get("approximate", "none"))),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _layer(lambda call: nn.Hardswish()),
    "Hardmax": _hardmax,
    "LeakyRelu": _layer(lambda call: nn.LeakyReLU(call.get("alpha", 0.01))),
    "LogSoftmax": _softmax(nn.LogSoftmax),
    "Mish": _layer(lambda call: nn.Mish()),
    "PRelu": _prelu,
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _layer(lambda call: nn.Sigmoid()),
    "Softmax": _softmax(nn.Softmax),
    "Softplus": _layer(lambda call: nn.Softplus()),
    "Softsign": _layer(lambda call: nn.Softsign()),
    "Swish": _swish,
    "Tanh": _layer(lambda call: nn.Tanh()),
    "ThresholdedRelu": _layer(lambda call: nn.Threshold(call.get("alpha", 1.0), 0.0)),
}
"""Op -> converter."""
