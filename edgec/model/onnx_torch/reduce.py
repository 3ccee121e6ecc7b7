"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, axis_of
from edgec.model.onnx_torch.recorder import Value

Reduction = Callable[[Value, list[int], bool], Value]
"""Of a value over axes; whether these stay as axes of length 1."""


def _reduced(reduction: Reduction) -> Converter:
    def convert(call: Call) -> Value:
        value, axes = call[0], call.setting(1, "axes")
        if not axes:
            if call.get("noop_with_empty_axes", 0):
                # each element is reduced alone
                return torch.squeeze(reduction(torch.unsqueeze(value, -1), [value.ndim], True), -1)
            axes = list(range(value.ndim))
        return reduction(value, sorted(axis_of(axis, value.ndim) for axis in axes), bool(call.get("keepdims", 1)))

    return convert


def _is_mean(call: Call) -> Value:
    value, axes = call[0], call.setting(1, "axes")
    if axes and value.ndim in (3, 4, 5) and call.get("keepdims", 1):
        spatial = list(range(2, value.ndim))
        if sorted(axis_of(axis, value.ndim) for axis in axes) == spatial:
            return global_average(call, value)
    return _MEAN(call)


def global_average(call: Call, value: Value) -> Value:
    """The mean over all spatial axes, as a layer."""
    layers: Any = {3: nn.AdaptiveAvgPool1d, 4: nn.AdaptiveAvgPool2d, 5: nn.AdaptiveAvgPool3d}
    return call.layer(layers[value.ndim](1), value)


def _sum(value: Value, axes: list[int], keep: bool) -> Value:
    total = torch.sum(value, axes, keepdim=keep) if axes else value
    return total if total.dtype == value.dtype else total.to(value.dtype)


def _mean(value: Value, axes: list[int], keep: bool) -> Value:
    if not value.dtype.is_floating_point:
        count = math.prod(value.shape[axis] for axis in axes)
        return torch.div(_sum(value, axes, keep), count, rounding_mode="trunc")
    return torch.mean(value, axes, keepdim=keep) if axes else value


def _extremum(function: Any, of_none: Callable[[torch.dtype], float]) -> Reduction:
    """The largest or the smallest element, and `of_none` where there are no elements."""

    def reduce(value: Value, axes: list[int], keep: bool) -> Value:
        if value.dtype == torch.bool:
            return function(value.to(torch.uint8), axes, keepdim=keep).to(torch.bool)
        if _is_empty(value):
            return torch.full(_sizes(value, axes, keep), of_none(value.dtype), dtype=value.dtype)
        return function(value, axes, keepdim=keep)

    return reduce


def _lowest(kind: torch.dtype) -> float:
    return -math.inf if kind.is_floating_point else torch.iinfo(kind).min


def _highest(kind: torch.dtype) -> float:
    return math.inf if kind.is_floating_point else torch.iinfo(kind).max


def _is_empty(value: Value) -> bool:
    return 0 in value.shape


def _sizes(value: Value, axes: list[int], keep: bool) -> list[int]:
    return [1 if index in axes else size for index, size in enumerate(value.shape) if keep or index not in axes]


def _prod(value: Value, axes: list[int], keep: bool) -> Value:
    for axis in reversed(axes):
        value = torch.prod(value, axis, keepdim=keep, dtype=value.dtype)
    return value


def _square_sum(value: Value, axes: list[int], keep: bool) -> Value:
    return _sum(torch.mul(value, value), axes, keep)


def _l2(value: Value, axes: list[int], keep: bool) -> Value:
    if not value.dtype.is_floating_point:
        return torch.sqrt(_square_sum(value, axes, keep).to(torch.float64)).to(value.dtype)
    return torch.sqrt(_square_sum(value, axes, keep))


def _log_sum_exp(value: Value, axes: list[int], keep: bool) -> Value:
    if not value.dtype.is_floating_point:
        return torch.logsumexp(value.to(torch.float64), axes, keepdim=keep).to(value.dtype)
    if _is_empty(value):
        return torch.log(_sum(torch.exp(value), axes, keep))
    return torch.logsumexp(value, axes, keepdim=keep)


_MEAN = _reduced(_mean)


def _extreme(function: Any) -> Converter:
    def convert(call: Call) -> Value:
        value, axis = call[0], axis_of(call.get("axis", 0), call[0].ndim)
        keep = bool(call.get("keepdims", 1))
        if not call.get("select_last_index", 0):
            return function(value, axis, keep)
        # the last of equal ones is the first from behind
        return torch.sub(
            torch.full([1] * (value.ndim if keep else value.ndim - 1), value.shape[axis] - 1),
            function(torch.flip(value, [axis]), axis, keep),
        )

    return convert


CONVERTERS: Mapping[str, Converter] = {
    "ArgMax": _extreme(torch.argmax),
    "ArgMin": _extreme(torch.argmin),
    "ReduceL1": _reduced(lambda value, axes, keep: _sum(torch.abs(value), axes, keep)),
    "ReduceL2": _reduced(_l2),
    "ReduceLogSum": _reduced(lambda value, axes, keep: torch.log(_sum(value, axes, keep))),
    "ReduceLogSumExp": _reduced(_log_sum_exp),
    "ReduceMax": _reduced(_extremum(torch.amax, _lowest)),
    "ReduceMean": _is_mean,
    "ReduceMin": _reduced(_extremum(torch.amin, _highest)),
    "ReduceProd": _reduced(_prod),
    "ReduceSum": _reduced(_sum),
    "ReduceSumSquare": _reduced(_square_sum),
}
"""Op -> converter."""
