"""Gathering and scattering: elements chosen by indices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, axis_of, is_constant, scalar
from edgec.model.onnx_torch.recorder import Value
from edgec.model.onnx_torch.shape import part


def not_negative(indices: Value, size: int) -> Value:
    """Indices counted from the front."""
    if is_constant(indices):
        return torch.where(indices < 0, indices + size, indices).to(torch.int64)
    whole = indices if indices.dtype == torch.int64 else indices.to(torch.int64)
    return torch.where(torch.lt(whole, 0), torch.add(whole, size), whole)


def _gather(call: Call) -> Value:
    value, indices = call[0], call[1]
    axis = axis_of(call.get("axis", 0), value.ndim)
    if not is_constant(indices):
        return _look_up(call, value, indices, axis)
    places = not_negative(indices, value.shape[axis])
    shape = [*value.shape[:axis], *places.shape, *value.shape[axis + 1 :]]
    if places.ndim == 0:
        return (
            value[tuple([slice(None)] * axis + [int(places)])]
            if not is_constant(value)
            else value.select(axis, int(places))
        )
    flat = places.reshape(-1)
    numbers = flat.tolist()
    if numbers == list(range(value.shape[axis])):
        picked = value
    elif numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        picked = value[tuple([slice(None)] * axis + [slice(numbers[0], numbers[-1] + 1)])]
    else:
        picked = torch.index_select(value, axis, flat)
    return picked if places.ndim == 1 else torch.reshape(picked, shape)


def _look_up(call: Call, value: Value, indices: Value, axis: int) -> Value:
    """A lookup by indices that depend on data: an Embedding, where it is one."""
    if is_constant(value) and axis == 0 and value.ndim == 2 and value.dtype.is_floating_point:
        rows, width = value.shape
        layer = nn.Embedding(rows, width, _weight=call.parameter(value))
        return call.layer(layer, not_negative(indices, rows))
    places = not_negative(indices, value.shape[axis])
    picked = torch.index_select(value, axis, torch.reshape(places, [-1]))
    return torch.reshape(picked, [*value.shape[:axis], *places.shape, *value.shape[axis + 1 :]])


def _gather_elements(call: Call) -> Value:
    axis = axis_of(call.get("axis", 0), call[0].ndim)
    return torch.gather(call[0], axis, not_negative(call[1], call[0].shape[axis]))


def _gather_nd(call: Call) -> Value:
    value, indices, batches = call[0], call[1], call.get("batch_dims", 0)
    depth = indices.shape[-1]
    shape = list(value.shape)
    flat = _rows(indices, shape[batches : batches + depth])
    inner, count = math.prod(shape[batches : batches + depth]), math.prod(shape[:batches])
    rest = shape[batches + depth :]
    table = torch.reshape(value, [count * inner, *rest])
    rows = torch.reshape(flat, [count, -1])
    if count > 1:
        rows = torch.add(rows, torch.arange(count)[:, None] * inner)
    picked = torch.index_select(table, 0, torch.reshape(rows, [-1]))
    return torch.reshape(picked, [*indices.shape[:-1], *rest])


def _rows(indices: Value, sizes: Sequence[int]) -> Value:
    """Indices along the last axis, into axes of these sizes, as one index a row into the table of all."""
    flat = torch.zeros((), dtype=torch.int64)
    for place, size in enumerate(sizes):
        flat = torch.add(torch.mul(flat, size), not_negative(indices[..., place], size))
    return flat


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(call: Call) -> Value:
    value, axis = call[0], axis_of(call.get("axis", 0), call[0].ndim)
    indices = not_negative(call[1], value.shape[axis])
    how = call.get("reduction", "none")
    if how == "none":
        return torch.scatter(value, axis, indices, call[2])
    return torch.scatter_reduce(value, axis, indices, call[2], _REDUCTIONS[how], include_self=True)


def _scatter_nd(call: Call) -> Value:
    value, indices, updates = call[0], call[1], call[2]
    depth, shape = indices.shape[-1], list(value.shape)
    inner, rest = math.prod(shape[:depth]), math.prod(shape[depth:])
    rows = torch.reshape(_rows(indices, shape[:depth]), [-1, 1])
    count = rows.shape[0]
    wide = rows.expand([count, rest])
    table, news = torch.reshape(value, [inner, rest]), torch.reshape(updates, [count, rest])
    how = call.get("reduction", "none")
    if how == "none":
        table = torch.scatter(table, 0, wide, news)
    else:
        table = torch.scatter_reduce(table, 0, wide, news, _REDUCTIONS[how], include_self=True)
    return torch.reshape(table, shape)


def _tensor_scatter(call: Call) -> Value:
    past, update = call[0], call[1]
    axis = axis_of(call.get("axis", -2), past.ndim)
    starts = call.integers(2, "write_indices") or [0] * past.shape[0]
    length, total = update.shape[axis], past.shape[axis]
    steps = torch.arange(length)
    places = torch.stack([start + steps for start in starts])
    if call.get("mode", "linear") == "circular":
        places = places % total
    shape = [1] * past.ndim
    shape[0], shape[axis] = past.shape[0], length
    return torch.scatter(past, axis, places.reshape(shape).expand(tuple(update.shape)).contiguous(), update)


def _one_hot(call: Call) -> Value:
    indices, depth, values = call[0], int(scalar(call.constant(1, "depth"))), call[2]
    axis = axis_of(call.get("axis", -1), indices.ndim + 1)
    places = torch.arange(depth).reshape([depth] + [1] * (indices.ndim - axis))
    hit = torch.eq(torch.unsqueeze(not_negative(indices, depth), axis), places)
    return torch.where(hit, values[1], values[0])


def _top_k(call: Call) -> Any:
    value = call[0]
    count = call.setting(1, "k") or [1]
    axis = axis_of(call.get("axis", -1), value.ndim)
    if call.get("sorted", 1) and count[0] == value.shape[axis]:
        order = torch.sort(value, dim=axis, descending=bool(call.get("largest", 1)), stable=True)
        return order[0], order[1]
    largest = torch.topk(value, count[0], axis, bool(call.get("largest", 1)), bool(call.get("sorted", 1)))
    return largest[0], largest[1]


def _compress(call: Call) -> Value:
    value = call[0]
    kept = torch.nonzero(call.constant(1, "condition")).reshape(-1)
    if "axis" not in call.attributes:
        return torch.index_select(torch.reshape(value, [-1]), 0, kept)
    return torch.index_select(value, axis_of(call.get("axis"), value.ndim), kept)


def _unique(call: Call) -> Any:
    value = call.constant(0, "input")
    if not call.get("sorted", 1):
        raise NoTorchFormError("torch finds unique elements in sorted order only")
    unique, inverse, counts = torch.unique(
        value, sorted=True, return_inverse=True, return_counts=True, dim=call.get("axis")
    )
    inverse = inverse.reshape(-1)
    first = torch.full((counts.numel(),), inverse.numel())
    first = first.scatter_reduce(0, inverse, torch.arange(inverse.numel()), "amin")
    return unique, first, inverse, counts


def _cumulative_sum(call: Call) -> Value:
    value = call[0]
    axis = axis_of(int(scalar(call.constant(1, "axis"))), value.ndim)
    if call.get("reverse", 0):
        value = torch.flip(value, [axis])
    total = torch.cumsum(value, axis, dtype=value.dtype)
    if call.get("exclusive", 0):
        first = torch.zeros([*value.shape[:axis], 1, *value.shape[axis + 1 :]], dtype=value.dtype)
        total = torch.cat([first, part(total, axis, 0, value.shape[axis] - 1)], axis)
    return torch.flip(total, [axis]) if call.get("reverse", 0) else total


CONVERTERS: Mapping[str, Converter] = {
    "Compress": _compress,
    "CumSum": _cumulative_sum,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": lambda call: torch.nonzero(call.constant(0, "input")).T.contiguous(),
    "OneHot": _one_hot,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "TopK": _top_k,
    "Unique": _unique,
}
"""Op -> converter."""
