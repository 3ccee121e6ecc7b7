"""Pools: layers of torch, whose windows are cut to those that ONNX asks for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError
from edgec.model.onnx_torch.convolution import Pads, pad_by, torch_pads, window_pads
from edgec.model.onnx_torch.recorder import Value
from edgec.model.onnx_torch.reduce import global_average

_MAX_POOLS: Mapping[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOLS: Mapping[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


@dataclass(frozen=True)
class _Windows:
    """The windows of a pool over the spatial axes."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: Pads
    counts: tuple[int, ...]
    """Number of windows, by axis."""

    @classmethod
    def of(cls, call: Call) -> _Windows:
        sizes, kernel = tuple(call[0].shape[2:]), tuple(call.get("kernel_shape"))
        axes = len(kernel)
        stride, dilation = tuple(call.get("strides", [1] * axes)), tuple(call.get("dilations", [1] * axes))
        pads = window_pads(call, sizes, kernel)
        counts = []
        for size, taps, step, gap, (before, after) in zip(sizes, kernel, stride, dilation, pads, strict=True):
            room = size + before + after - (taps - 1) * gap - 1
            count = (-(-room // step) if call.get("ceil_mode", 0) else room // step) + 1
            if (count - 1) * step >= size + before:
                count -= 1  # a window in the padding alone
            counts.append(count)
        return cls(sizes, kernel, stride, dilation, pads, tuple(counts))

    def native(self, ceil: bool) -> tuple[int, ...] | None:
        """How many windows torch's layer has with the padding before on both sides; None when it cannot pad so."""
        pads = []
        for size, taps, step, gap, (before, _) in zip(
            self.sizes, self.kernel, self.stride, self.dilation, self.pads, strict=True
        ):
            room = size + 2 * before - (taps - 1) * gap - 1
            if 2 * before > taps or room < 0:
                return None
            count = (-(-room // step) if ceil else room // step) + 1
            if ceil and (count - 1) * step >= size + before:
                count -= 1
            pads.append(count)
        return tuple(pads)

    def fitting(self) -> bool | None:
        """The ceil mode with which torch's layer has all windows; None when neither has."""
        for ceil in (False, True):
            native = self.native(ceil)
            if native is not None and all(have >= want for have, want in zip(native, self.counts, strict=True)):
                return ceil
        return None

    def cut(self, value: Value) -> Value:
        """The windows asked for, of a layer's output that may have more."""
        if tuple(value.shape[2:]) == self.counts:
            return value
        return value[(slice(None), slice(None), *[slice(0, count) for count in self.counts])]

    def covering(self) -> Pads:
        """Padding with which the windows fill the axes exactly."""
        pads = []
        for size, taps, step, gap, (before, _), count in zip(
            self.sizes, self.kernel, self.stride, self.dilation, self.pads, self.counts, strict=True
        ):
            pads.append((before, max(0, (count - 1) * step + (taps - 1) * gap + 1 - size - before)))
        return pads

    @property
    def befores(self) -> tuple[int, ...]:
        """Padding before, by axis."""
        return tuple(before for before, _ in self.pads)


def _max_pool(call: Call) -> Any:
    value, windows = call[0], _Windows.of(call)
    axes = len(windows.kernel)
    if axes not in _MAX_POOLS:
        raise NoTorchFormError(f"torch has no pool over {axes} axes")
    kind = value.dtype
    if not kind.is_floating_point:
        value = value.to(torch.float32)
    ceil = windows.fitting()
    padding: tuple[int, ...] = windows.befores
    if ceil is None:
        lowest = torch.finfo(value.dtype).min
        value = functional.pad(value, torch_pads(windows.covering()), "constant", lowest)
        padding, ceil = (0,) * axes, False
    indices = call.wants(1)
    if indices and (windows.fitting() is None):
        raise NoTorchFormError("torch gives no indices with this padding")
    layer = _MAX_POOLS[axes](windows.kernel, windows.stride, padding, windows.dilation, indices, ceil)
    result = call.layer(layer, value)
    if not indices:
        result = windows.cut(result)
        return result if kind.is_floating_point else result.to(kind)
    maxima, places = windows.cut(result[0]), windows.cut(result[1])
    return maxima, _positions(places, tuple(value.shape), bool(call.get("storage_order", 0)))


def _positions(places: Value, shape: tuple[int, ...], columns_first: bool) -> Value:
    """Positions in the whole tensor, of positions in a channel."""
    plane = math.prod(shape[2:])
    if columns_first:
        weight, rest, flat = 1, places, torch.zeros((), dtype=torch.int64)
        inner = plane
        for size in shape[2:]:
            inner //= size
            flat = torch.add(flat, torch.mul(torch.div(rest, inner, rounding_mode="floor"), weight))
            rest = torch.remainder(rest, inner)
            weight *= size
        places = flat
    starts = torch.arange(shape[0] * shape[1]).reshape(shape[0], shape[1], *[1] * len(shape[2:])) * plane
    return torch.add(places, starts)


def _average_pool(call: Call) -> Value:
    value, windows = call[0], _Windows.of(call)
    axes = len(windows.kernel)
    if axes not in _AVERAGE_POOLS or set(windows.dilation) != {1}:
        return _window_mean(call, value, windows)
    counted, ceil_mode = bool(call.get("count_include_pad", 0)), bool(call.get("ceil_mode", 0))
    # before opset 19 what a last window has outside of the padding counts too: that is how ONNX Runtime reads it
    whole = ceil_mode and call.opset < 19
    if counted and (whole or any(before != after for before, after in windows.pads)):
        value = pad_by(call, value, windows.covering() if whole else windows.pads)
        layer = _AVERAGE_POOLS[axes](windows.kernel, windows.stride, 0, ceil_mode and not whole)
        return windows.cut(call.layer(layer, value))
    ceil = windows.fitting()
    if ceil is None:
        return _window_mean(call, value, windows)
    padded = any(windows.befores)
    layer = _AVERAGE_POOLS[axes](windows.kernel, windows.stride, windows.befores, ceil, counted or not padded)
    if not padded and any(after for _, after in windows.pads):
        layer.count_include_pad = False
    return windows.cut(call.layer(layer, value))


def _window_mean(call: Call, value: Value, windows: _Windows) -> Value:
    ones = torch.ones(windows.sizes)[None, None]
    if call.get("count_include_pad", 0):
        ones = functional.pad(ones, torch_pads(windows.pads), "constant", 1.0)
        counts = _window_sum(
            ones,
            windows,
            [(0, after - own) for (_, after), (_, own) in zip(windows.covering(), windows.pads, strict=True)],
        )
    else:
        counts = _window_sum(ones, windows, windows.covering())
    return torch.div(_window_sum(value, windows, windows.covering()), counts)


def _window_sum(value: Value, windows: _Windows, pads: Pads) -> Value:
    """The sum over each window, one tap after the other."""
    if any(amount for pair in pads for amount in pair):
        value = functional.pad(value, torch_pads(pads))
    total = None
    for taps in itertools.product(*[range(size) for size in windows.kernel]):
        place = [
            slice(tap * gap, tap * gap + (count - 1) * step + 1, step)
            for tap, gap, step, count in zip(taps, windows.dilation, windows.stride, windows.counts, strict=True)
        ]
        piece = value[(slice(None), slice(None), *place)]
        total = piece if total is None else torch.add(total, piece)
    return total


def _lp_pool(call: Call) -> Value:
    windows, power = _Windows.of(call), call.get("p", 2)
    summed = _window_sum(torch.pow(torch.abs(call[0]), power), windows, windows.covering())
    return torch.pow(summed, 1.0 / power)


def _global_max(call: Call) -> Value:
    value = call[0]
    axes = value.ndim - 2
    if axes in _MAX_POOLS:
        return call.layer(_MAX_POOLS[axes](tuple(value.shape[2:])), value)
    return torch.amax(value, list(range(2, value.ndim)), keepdim=True)


def _global_lp(call: Call) -> Value:
    power = call.get("p", 2)
    total = torch.sum(torch.pow(torch.abs(call[0]), power), list(range(2, call[0].ndim)), keepdim=True)
    return torch.pow(total, 1.0 / power)


def _global_average(call: Call) -> Value:
    if call[0].ndim in (3, 4, 5):
        return global_average(call, call[0])
    return torch.mean(call[0], list(range(2, call[0].ndim)), keepdim=True)


def _max_unpool(call: Call) -> Value:
    value, places = call[0], call[1]
    kernel = call.get("kernel_shape")
    axes = len(kernel)
    stride, pads = call.get("strides", [1] * axes), call.get("pads", [0] * 2 * axes)
    spatial: Sequence[int] = [
        (size - 1) * step - before - after + taps
        for size, step, before, after, taps in zip(
            value.shape[2:], stride, pads[:axes], pads[axes:], kernel, strict=True
        )
    ]
    shape = [value.shape[0], value.shape[1], *spatial]
    empty = torch.zeros(math.prod(shape), dtype=value.dtype)
    unpooled = torch.scatter(empty, 0, torch.reshape(places, [-1]), torch.reshape(value, [-1]))
    unpooled = torch.reshape(unpooled, shape)
    wanted = call.integers(2, "output_shape")
    if wanted is not None and wanted != shape:
        grown = [(0, new - old) for old, new in zip(shape, wanted, strict=True)]
        unpooled = functional.pad(unpooled, torch_pads(grown))
    return unpooled


CONVERTERS: Mapping[str, Converter] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalLpPool": _global_lp,
    "GlobalMaxPool": _global_max,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
    "MaxUnpool": _max_unpool,
}
"""Op -> converter."""
