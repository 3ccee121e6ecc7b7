"""Convolutions and padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of, is_constant
from edgec.model.onnx_torch.recorder import Value

_CONVOLUTIONS: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: Mapping[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_ZERO_PADS: Mapping[int, Any] = {1: nn.ZeroPad1d, 2: nn.ZeroPad2d, 3: nn.ZeroPad3d}

Pads = list[tuple[int, int]]
"""Before and after, by spatial axis."""


def window_pads(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> Pads:
    """The padding of a convolution or pool, whether it is written as numbers or as a rule.

    Args:
        call: the node.
        sizes: of the spatial axes of the input.
        kernel: taps along each spatial axis.
    """
    count = len(kernel)
    strides, dilations = call.get("strides", [1] * count), call.get("dilations", [1] * count)
    rule = call.get("auto_pad", "NOTSET")
    if rule == "VALID":
        return [(0, 0)] * count
    if rule in ("", "NOTSET"):
        stated = call.get("pads", [0] * 2 * count)
        return list(zip(stated[:count], stated[count:], strict=True))
    pads = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if rule == "SAME_UPPER" else (more, less))
    return pads


def torch_pads(pads: Pads) -> list[int]:
    """Padding in torch's order: the innermost axis first."""
    return [amount for pair in reversed(pads) for amount in pair]


def pad_by(call: Call, value: Value, pads: Pads, fill: float = 0.0) -> Value:
    """Constant padding of the last axes: a layer.

    Args:
        call: the node.
        value: the tensor to pad.
        pads: before and after, by axis.
        fill: the constant.
    """
    if not any(amount for pair in pads for amount in pair):
        return value
    if fill == 0 and len(pads) in _ZERO_PADS and value.ndim == len(pads) + 2:
        return call.layer(_ZERO_PADS[len(pads)](tuple(torch_pads(pads))), value)
    return functional.pad(value, torch_pads(pads), "constant", fill)


def _conv(call: Call) -> Value:
    value, weight, bias = call[0], call[1], call[2]
    axes = weight.ndim - 2
    if axes not in _CONVOLUTIONS:
        raise NoTorchFormError(f"torch has no convolution over {axes} axes")
    pads = window_pads(call, value.shape[2:], weight.shape[2:])
    same = all(before == after for before, after in pads)
    if not same:
        value = pad_by(call, value, pads)
    padding = tuple(before for before, _ in pads) if same else (0,) * axes
    stride, dilation = tuple(call.get("strides", [1] * axes)), tuple(call.get("dilations", [1] * axes))
    groups = call.get("group", 1)
    if not is_constant(weight, bias):
        function: Any = getattr(functional, f"conv{axes}d")
        return function(value, weight, bias, stride, padding, dilation, groups)
    layer = _CONVOLUTIONS[axes](
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), stride, padding, dilation, groups,
        bias is not None, device="meta",
    )  # fmt: skip
    return call.layer(call.weighted(layer, weight=weight, bias=bias), value)


def _conv_transpose(call: Call) -> Value:
    value, weight, bias = call[0], call[1], call[2]
    axes = weight.ndim - 2
    if axes not in _TRANSPOSED:
        raise NoTorchFormError(f"torch has no transposed convolution over {axes} axes")
    stride, dilation = tuple(call.get("strides", [1] * axes)), tuple(call.get("dilations", [1] * axes))
    extra = list(call.get("output_padding", [0] * axes))
    groups = call.get("group", 1)
    spans = [(taps - 1) * step + 1 for taps, step in zip(weight.shape[2:], dilation, strict=True)]
    pads = _transposed_pads(call, value.shape[2:], spans, stride, extra)
    # torch cuts both ends alike and can leave more at the end only; what it cannot do is cut afterwards
    plan: list[tuple[int, int, tuple[int, int]]] = []
    for (before, after), more, step, span in zip(pads, extra, stride, dilation, strict=True):
        grown = before - after + more
        if before >= 0 and 0 <= grown < max(step, span):
            plan.append((before, grown, (0, 0)))
        elif after - more >= 0 and before >= after - more:
            plan.append((after - more, 0, (before - after + more, 0)))
        else:
            plan.append((0, 0, (before, after - more)))
    padding, output_padding, cuts = zip(*plan, strict=True)
    if not is_constant(weight, bias):
        function: Any = getattr(functional, f"conv_transpose{axes}d")
        result = function(value, weight, bias, stride, padding, output_padding, groups, dilation)
    else:
        layer = _TRANSPOSED[axes](
            weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]), stride, padding,
            output_padding, groups, bias is not None, dilation, device="meta",
        )  # fmt: skip
        result = call.layer(call.weighted(layer, weight=weight, bias=bias), value)
    if not any(amount for pair in cuts for amount in pair):
        return result
    if any(amount < 0 for pair in cuts for amount in pair) and bias is not None:
        # what is added holds the bias alone
        plain = functional.pad(torch.sub(result, _by_channel(bias, axes)), torch_pads([(-a, -b) for a, b in cuts]))
        return torch.add(plain, _by_channel(bias, axes))
    return functional.pad(result, torch_pads([(-before, -after) for before, after in cuts]))


def _by_channel(bias: Value, axes: int) -> Value:
    return torch.reshape(bias, [1, -1, *[1] * axes])


def _transposed_pads(
    call: Call, sizes: Sequence[int], spans: Sequence[int], stride: Sequence[int], extra: Sequence[int]
) -> Pads:
    axes = len(spans)
    rule = call.get("auto_pad", "NOTSET")
    wanted = call.get("output_shape")
    if wanted is not None:
        wanted = list(wanted)[-axes:]
    elif rule in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [size * step for size, step in zip(sizes, stride, strict=True)]
    if wanted is None:
        stated = [0] * 2 * axes if rule == "VALID" else call.get("pads", [0] * 2 * axes)
        return list(zip(stated[:axes], stated[axes:], strict=True))
    pads = []
    for size, span, step, more, target in zip(sizes, spans, stride, extra, wanted, strict=True):
        total = step * (size - 1) + more + span - target
        less, rest = total // 2, total - total // 2
        pads.append((less, rest) if rule == "SAME_UPPER" else (rest, less))
    return pads


def _pad(call: Call) -> Value:
    value, mode = call[0], call.get("mode", "constant")
    amounts = call.setting(1, "pads") or call.get("paddings")
    fill = call.number(2, "value", 0.0) or 0.0
    rank = value.ndim
    axes = call.integers(3, "axes")
    if axes is None:
        axes = list(range(rank))
    pads = [(0, 0)] * rank
    for index, axis in enumerate(axes):
        pads[axis_of(axis, rank)] = amounts[index], amounts[index + len(axes)]
    first = next((index for index, pair in enumerate(pads) if pair != (0, 0)), None)
    if first is None:
        return value
    if mode == "constant":
        return _pad_constant(call, value, pads, first, fill)
    # negative amounts cut, whatever the mode
    for axis, (before, after) in enumerate(pads):
        if before < 0 or after < 0:
            start, end = max(0, -before), value.shape[axis] - max(0, -after)
            value = value[tuple([slice(None)] * axis + [slice(start, end)])]
            pads[axis] = max(0, before), max(0, after)
    return _pad_by_index(value, pads, mode)


def _pad_constant(call: Call, value: Value, pads: Pads, first: int, fill: float) -> Value:
    if first >= 2 and all(amount >= 0 for pair in pads for amount in pair):
        return pad_by(call, value, pads[2:], fill)
    number = fill if value.dtype.is_floating_point else int(fill)
    if value.dtype == torch.bool:
        return functional.pad(value.to(torch.uint8), torch_pads(pads[first:]), "constant", number).to(torch.bool)
    return functional.pad(value, torch_pads(pads[first:]), "constant", number)


def _pad_by_index(value: Value, pads: Pads, mode: str) -> Value:
    """Reflection and the like on any axis: each new element is one of the old."""
    spatial = pads[2:]
    modes = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    fits = all(max(pair) < size for pair, size in zip(spatial, value.shape[2:], strict=True))
    images = pads[:2] == [(0, 0)] * 2 and value.ndim in (3, 4, 5) and value.dtype.is_floating_point
    if images and fits and mode in modes:
        return functional.pad(value, torch_pads(spatial), modes[mode])
    for axis, (before, after) in enumerate(pads):
        if before or after:
            size = value.shape[axis]
            value = torch.index_select(value, axis, _source(torch.arange(-before, size + after), size, mode))
    return value


def _source(places: torch.Tensor, size: int, mode: str) -> torch.Tensor:
    if mode == "edge":
        return places.clamp(0, size - 1)
    if mode == "wrap":
        return places % size
    if mode != "reflect":
        raise NoTorchFormError(f'padding mode "{mode}" is not known')
    period = max(1, 2 * (size - 1))
    places = places % period
    return torch.where(places >= size, period - places, places)


CONVERTERS: Mapping[str, Converter] = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Pad": _pad}
"""Op -> converter."""
