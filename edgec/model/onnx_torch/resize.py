"""Resize and Upsample: layers of torch where these give the same, else what they are: a matrix an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of, is_constant
from edgec.model.onnx_torch.recorder import Value
from edgec.model.spec import Array


@dataclass(frozen=True)
class _Axis:
    """How one axis is resized."""

    size: int
    new: int
    scale: float
    """New by old; not exactly the sizes' ratio where the file states a factor."""
    start: float
    end: float
    """The region that is resized, for tf_crop_and_resize: 0 to 1 is all."""


@dataclass(frozen=True)
class _Rule:
    """Settings that all axes share."""

    mode: str
    coordinates: str
    rounding: str
    cubic: float
    exclude_outside: bool
    antialias: bool
    extrapolated: float


def _resize(call: Call) -> Value:
    value = call[0]
    if call.op == "Upsample" or call.opset < 11:
        rule = _Rule(call.get("mode", "nearest"), "asymmetric", "floor", -0.75, False, False, 0.0)
        scales = call.get("scales") or call.constant(1, "scales").tolist()
        sizes, roi = None, None
    else:
        rule = _Rule(
            mode=call.get("mode", "nearest"),
            coordinates=call.get("coordinate_transformation_mode", "half_pixel"),
            rounding=call.get("nearest_mode", "round_prefer_floor"),
            cubic=call.get("cubic_coeff_a", -0.75),
            exclude_outside=bool(call.get("exclude_outside", 0)),
            antialias=bool(call.get("antialias", 0)),
            extrapolated=call.get("extrapolation_value", 0.0),
        )
        sizes = call.integers(3, "sizes") or None
        given = call[2] is not None and sizes is None
        scales = call.constant(2, "scales").reshape(-1).tolist() if given else None
        crops = rule.coordinates == "tf_crop_and_resize"
        roi = call.constant(1, "roi").reshape(-1).tolist() if crops else None
    axes = [axis_of(axis, value.ndim) for axis in call.get("axes", range(value.ndim))]
    plan = _plan(value.shape, axes, scales, sizes, roi, call.get("keep_aspect_ratio_policy", "stretch"))
    changed = {axis: how for axis, how in plan.items() if how.size != how.new or how.scale != 1 or roi is not None}
    if not changed:
        return value
    layer = _native(call, value, changed, rule)
    return layer if layer is not None else _by_axis(value, changed, rule)


def _plan(
    shape: Sequence[int],
    axes: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    roi: Sequence[float] | None,
    policy: str,
) -> dict[int, _Axis]:
    plan = {}
    if sizes is not None and policy != "stretch":
        choose = min if policy == "not_larger" else max
        factor = choose(new / shape[axis] for axis, new in zip(axes, sizes, strict=True))
        sizes = [math.floor(factor * shape[axis] + 0.5) for axis in axes]
        scales = [factor] * len(axes)
    for index, axis in enumerate(axes):
        size = shape[axis]
        start, end = (roi[index], roi[index + len(axes)]) if roi is not None else (0.0, 1.0)
        if sizes is not None:
            new = sizes[index]
            scale = scales[index] if scales is not None else new / size
        else:
            assert scales is not None
            scale = scales[index]
            new = math.floor(size * scale * (end - start))
        plan[axis] = _Axis(size, new, scale, start, end)
    return plan


def _native(call: Call, value: Value, changed: Mapping[int, _Axis], rule: _Rule) -> Value:
    """torch's own layer, if it computes the same on the example; else None."""
    spatial = range(2, value.ndim)
    modes = {"nearest": "nearest", "linear": {3: "linear", 4: "bilinear", 5: "trilinear"}.get(value.ndim, "")}
    modes["cubic"] = "bicubic" if value.ndim == 4 else ""
    mode = modes.get(rule.mode, "")
    if value.ndim not in (3, 4, 5) or not mode or not set(changed) <= set(spatial) or is_constant(value):
        return None
    if rule.antialias or rule.exclude_outside or not value.dtype.is_floating_point:
        return None
    corners = None if mode == "nearest" else rule.coordinates == "align_corners"
    size = tuple(changed[axis].new if axis in changed else value.shape[axis] for axis in spatial)
    layer = nn.Upsample(size=size, mode=mode, align_corners=corners)
    probe = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, *value.shape[2:])).astype(np.float32))
    if not torch.allclose(layer(probe), _by_axis(probe, changed, rule), atol=1e-4):
        return None
    scales = [changed[axis].scale if axis in changed else 1.0 for axis in spatial]
    if all(scale == int(scale) for scale in scales):
        layer = nn.Upsample(scale_factor=tuple(scales), mode=mode, align_corners=corners)
    return call.layer(layer, value)


def _by_axis(value: Value, changed: Mapping[int, _Axis], rule: _Rule) -> Value:
    outside: dict[int, Array] = {}
    for axis, how in changed.items():
        places = _coordinates(how, rule)
        if rule.coordinates == "tf_crop_and_resize":
            outside[axis] = (places < 0) | (places > how.size - 1)
        value = _one_axis(value, axis, how, places, rule)
    if not any(mask.any() for mask in outside.values()):
        return value
    mask = torch.zeros((), dtype=torch.bool)
    for axis, missing in outside.items():
        mask = mask | torch.from_numpy(missing).reshape([-1] + [1] * (value.ndim - 1 - axis))
    return torch.where(mask, torch.tensor(rule.extrapolated, dtype=value.dtype), value)


def _one_axis(value: Value, axis: int, how: _Axis, places: Array, rule: _Rule) -> Value:
    if rule.mode == "nearest":
        picked = torch.from_numpy(_rounded(places, rule.rounding).clip(0, how.size - 1).astype(np.int64))
        return torch.index_select(value, axis, picked)
    matrix = torch.from_numpy(_matrix(how, places, rule).astype(np.float32)).to(value.dtype)
    # along the last axis it is a product with a weight
    last = value.ndim - 1
    moved = value if axis == last else torch.transpose(value, axis, last)
    result = torch.matmul(moved, matrix.t().contiguous())
    return result if axis == last else torch.transpose(result, axis, last)


def _coordinates(how: _Axis, rule: _Rule) -> Array:
    """For each new place the old one, as a fraction."""
    new = np.arange(how.new, dtype=np.float64)
    # float32 as runtimes compute it, so that ties are broken alike
    scale, wide = float(np.float32(how.scale)), how.size * how.scale
    table: dict[str, Callable[[], Any]] = {
        "half_pixel": lambda: (new + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda: (new + 0.5) / scale - 0.5 if how.new > 1 else new * 0,
        "align_corners": lambda: new * (how.size - 1) / (how.new - 1) if how.new > 1 else new * 0,
        "asymmetric": lambda: new / scale,
        "tf_half_pixel_for_nn": lambda: (new + 0.5) / scale,
        "half_pixel_symmetric": lambda: how.size / 2 * (1 - how.new / wide) + (new + 0.5) / scale - 0.5,
        "tf_crop_and_resize": lambda: (
            how.start * (how.size - 1) + new * (how.end - how.start) * (how.size - 1) / (how.new - 1)
            if how.new > 1
            else 0.5 * (how.start + how.end) * (how.size - 1) + new * 0
        ),
    }
    if rule.coordinates not in table:
        raise NoTorchFormError(f'coordinate_transformation_mode "{rule.coordinates}" is not known')
    coordinates: Array = np.asarray(table[rule.coordinates]())
    return coordinates


def _rounded(places: Array, rounding: str) -> Array:
    near = np.round(places * 2**20) / 2**20  # not to be thrown over a tie by the last bits
    table: dict[str, Callable[[], Array]] = {
        "round_prefer_floor": lambda: np.ceil(near - 0.5),
        "round_prefer_ceil": lambda: np.floor(near + 0.5),
        "floor": lambda: np.floor(near),
        "ceil": lambda: np.ceil(near),
        "": lambda: np.floor(near),
    }
    return table[rounding]()


def _matrix(how: _Axis, places: Array, rule: _Rule) -> Array:
    """The weights of the old places (columns) in the new (rows)."""
    stretch = max(1.0, 1 / how.scale) if rule.antialias else 1.0
    reach = math.ceil((1 if rule.mode == "linear" else 2) * stretch)
    matrix = np.zeros((how.new, how.size))
    for row, place in enumerate(places):
        first = math.floor(place) - reach + 1
        near = np.arange(first, first + 2 * reach)
        weights = _kernel((near - place) / stretch, rule)
        inside = (near >= 0) & (near < how.size)
        if rule.exclude_outside:
            weights = np.where(inside, weights, 0.0)
        if rule.exclude_outside or rule.antialias:
            weights = weights / weights.sum()
        np.add.at(matrix[row], near.clip(0, how.size - 1), weights)
    return matrix


def _kernel(distance: Array, rule: _Rule) -> Array:
    far = np.abs(distance)
    if rule.mode == "linear":
        return np.clip(1 - far, 0, None)
    a = rule.cubic
    inner = (a + 2) * far**3 - (a + 3) * far**2 + 1
    outer = a * far**3 - 5 * a * far**2 + 8 * a * far - 4 * a
    weights: Array = np.where(far <= 1, inner, np.where(far < 2, outer, 0.0))
    return weights


CONVERTERS: Mapping[str, Converter] = {"Resize": _resize, "Upsample": _resize}
"""Op -> converter."""
