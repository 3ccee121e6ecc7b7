"""Normalizations: layers of torch where it has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.attention import heads_first
from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of, is_constant
from edgec.model.onnx_torch.elementwise import add, cast, mul
from edgec.model.onnx_torch.recorder import Value

_BATCH_NORMS: Mapping[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_INSTANCE_NORMS: Mapping[int, Any] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


def _batch_norm(call: Call) -> Any:
    value, scale, bias, mean, variance = call.inputs[:5]
    eps = call.get("epsilon", 1e-5)
    if call.get("training_mode", 0):
        return _batch_norm_in_training(call)
    if is_constant(scale, bias, mean, variance) and value.ndim in _BATCH_NORMS:
        layer = call.weighted(_BATCH_NORMS[value.ndim](scale.numel(), eps=eps), weight=scale, bias=bias)
        layer.running_mean, layer.running_var = mean.clone(), variance.clone()
        return call.layer(layer, value)
    return _normalized(value, scale, bias, mean, variance, eps)


def _normalized(value: Value, scale: Value, bias: Value, mean: Value, variance: Value, eps: float) -> Value:
    shape = [1, -1, *[1] * (value.ndim - 2)]
    factor = torch.mul(scale, torch.rsqrt(add(variance, torch.tensor(eps, dtype=variance.dtype))))
    centred = torch.sub(value, torch.reshape(mean, shape))
    return torch.add(torch.mul(centred, torch.reshape(factor, shape)), torch.reshape(bias, shape))


def _batch_norm_in_training(call: Call) -> Any:
    value, scale, bias, mean, variance = call.inputs[:5]
    axes = [0, *range(2, value.ndim)]
    now, spread = torch.mean(value, axes), torch.var(value, axes, correction=0)
    momentum = call.get("momentum", 0.9)
    result = _normalized(value, scale, bias, now, spread, call.get("epsilon", 1e-5))
    running = torch.add(mul(mean, torch.tensor(momentum)), mul(now, torch.tensor(1 - momentum)))
    spreads = torch.add(mul(variance, torch.tensor(momentum)), mul(spread, torch.tensor(1 - momentum)))
    return result, running, spreads


def _instance_norm(call: Call) -> Value:
    value, scale, bias = call.inputs[:3]
    eps = call.get("epsilon", 1e-5)
    if is_constant(scale, bias) and value.ndim in _INSTANCE_NORMS:
        layer = _INSTANCE_NORMS[value.ndim](scale.numel(), eps=eps, affine=True)
        return call.layer(call.weighted(layer, weight=scale, bias=bias), value)
    return _by_channel(_standardized(value, list(range(2, value.ndim)), eps), scale, bias)


def _by_channel(value: Value, scale: Value, bias: Value) -> Value:
    shape = [1, -1, *[1] * (value.ndim - 2)]
    return torch.add(torch.mul(value, torch.reshape(scale, shape)), torch.reshape(bias, shape))


def _standardized(value: Value, axes: list[int], eps: float) -> Value:
    mean = torch.mean(value, axes, keepdim=True)
    centred = torch.sub(value, mean)
    spread = torch.mean(torch.mul(centred, centred), axes, keepdim=True)
    return torch.mul(centred, torch.rsqrt(spread + eps))


def _layer_norm(call: Call) -> Any:
    value, scale, bias = call[0], call[1], call[2]
    axis = axis_of(call.get("axis", -1), value.ndim)
    eps, shape = call.get("epsilon", 1e-5), tuple(value.shape[axis:])
    axes = list(range(axis, value.ndim))
    fits = is_constant(scale, bias) and tuple(scale.shape) == shape and (bias is None or tuple(bias.shape) == shape)
    if fits and not call.wants(1) and not call.wants(2):
        layer = nn.LayerNorm(shape, eps=eps, bias=bias is not None)
        return call.layer(call.weighted(layer, weight=scale, bias=bias), value)
    mean = torch.mean(value, axes, keepdim=True)
    centred = torch.sub(value, mean)
    inverse = torch.rsqrt(torch.mean(torch.mul(centred, centred), axes, keepdim=True) + eps)
    result = torch.mul(torch.mul(centred, inverse), scale)
    return result if bias is None else torch.add(result, bias), mean, inverse


def _rms_norm(call: Call) -> Value:
    value, scale = call[0], call[1]
    axes = list(range(axis_of(call.get("axis", -1), value.ndim), value.ndim))
    mean = torch.mean(torch.mul(value, value), axes, keepdim=True)
    return torch.mul(torch.mul(value, torch.rsqrt(mean + call.get("epsilon", 1e-5))), scale)


def _group_norm(call: Call) -> Value:
    value, scale, bias = call.inputs[:3]
    groups, eps, channels = call.get("num_groups"), call.get("epsilon", 1e-5), value.shape[1]
    if call.opset < 21:  # one factor a group, not a channel
        scale, bias = (torch.repeat_interleave(item, channels // groups, 0) for item in (scale, bias))
    if is_constant(scale, bias):
        layer = nn.GroupNorm(groups, channels, eps=eps)
        return call.layer(call.weighted(layer, weight=scale, bias=bias), value)
    return _by_channel(call.layer(nn.GroupNorm(groups, channels, eps=eps, affine=False), value), scale, bias)


def _lrn(call: Call) -> Value:
    value, size = call[0], call.get("size")
    alpha, beta, bias = call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    if size % 2:
        return call.layer(nn.LocalResponseNorm(size, alpha, beta, bias), value)
    before = (size - 1) // 2
    channels = value.shape[1]
    squares = torch.mul(value, value)
    near = [
        [index for index in range(middle - before, middle + size - before) if 0 <= index < channels]
        for middle in range(channels)
    ]
    band = torch.tensor([[1.0 if index in row else 0.0 for index in range(channels)] for row in near])
    total = torch.einsum("oc,nc...->no...", band, squares)
    return torch.div(value, torch.pow(total * (alpha / size) + bias, beta))


def _lp_normalization(call: Call) -> Value:
    value, axis = call[0], axis_of(call.get("axis", -1), call[0].ndim)
    if call.get("p", 2) == 1:
        norm = torch.sum(torch.abs(value), axis, keepdim=True)
    else:
        norm = torch.sqrt(torch.sum(torch.mul(value, value), axis, keepdim=True))
    # a vector of zeros stays one
    return torch.div(value, torch.where(torch.eq(norm, 0), torch.ones((), dtype=value.dtype), norm))


def _mean_variance(call: Call) -> Value:
    value, axes = call[0], list(call.get("axes", [0, 2, 3]))
    mean = torch.mean(value, axes, keepdim=True)
    spread = torch.sub(torch.mean(torch.mul(value, value), axes, keepdim=True), torch.mul(mean, mean))
    return torch.div(torch.sub(value, mean), torch.sqrt(spread) + 1e-9)


def _rotary(call: Call) -> Value:
    value, cosines, sines, positions = call[0], call[1], call[2], call[3]
    flat = value.ndim == 3
    if flat:
        heads = call.get("num_heads", 0)
        if not heads:
            raise NoTorchFormError("num_heads is missing")
        value = heads_first(value, heads)
    size = value.shape[3]
    rotated = call.get("rotary_embedding_dim", 0) or size
    if positions is not None:
        shape = [*positions.shape, cosines.shape[-1]]
        rows = torch.reshape(positions, [-1])
        cosines, sines = (torch.reshape(torch.index_select(item, 0, rows), shape) for item in (cosines, sines))
    cosines, sines = (torch.unsqueeze(item[..., : rotated // 2], 1) for item in (cosines, sines))
    turned, rest = value[..., :rotated], value[..., rotated:] if rotated < size else None
    if call.get("interleaved", 0):
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned[..., : rotated // 2], turned[..., rotated // 2 :]
    real = torch.sub(torch.mul(first, cosines), torch.mul(second, sines))
    imaginary = torch.add(torch.mul(first, sines), torch.mul(second, cosines))
    if call.get("interleaved", 0):
        result = torch.reshape(torch.stack([real, imaginary], -1), list(turned.shape))
    else:
        result = torch.cat([real, imaginary], -1)
    if rest is not None:
        result = torch.cat([result, rest], -1)
    if flat:
        result = torch.reshape(torch.permute(result, [0, 2, 1, 3]), list(call[0].shape))
    return cast(result, call[0].dtype)


CONVERTERS: Mapping[str, Converter] = {
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "LRN": _lrn,
    "LayerNormalization": _layer_norm,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance,
    "RMSNormalization": _rms_norm,
    "RotaryEmbedding": _rotary,
}
"""Op -> converter."""
