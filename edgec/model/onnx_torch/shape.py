"""Shapes: what they are, and ops that move elements without changing them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError, as_dtype, axis_of, broadcast_shape, scalar
from edgec.model.onnx_torch.recorder import Value


def reshape(value: Value, shape: list[int]) -> Value:
    """`value` with another shape; itself where that is its own."""
    return value if list(value.shape) == list(shape) else torch.reshape(value, shape)


def _shape(call: Call) -> Value:
    dims = list(call[0].shape)
    start, end = call.get("start", 0), call.get("end", len(dims))
    return torch.tensor(dims[start:end], dtype=torch.int64)


def _size(call: Call) -> Value:
    return torch.tensor(math.prod(call[0].shape))


def _reshape(call: Call) -> Value:
    wanted = call.setting(1, "shape") or []
    value = call[0]
    if not call.get("allowzero", 0):
        wanted = [value.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    total, known = math.prod(value.shape), math.prod(size for size in wanted if size != -1)
    return reshape(value, [total // known if size == -1 else size for size in wanted])


def _flatten(call: Call) -> Value:
    value, axis = call[0], axis_of(call.get("axis", 1), call[0].ndim)
    before, total = math.prod(value.shape[:axis]), math.prod(value.shape)
    if axis == 1 and value.ndim > 1:
        return value if value.ndim == 2 else torch.flatten(value, 1)
    return reshape(value, [before, total // before if before else 0])


def _squeeze(call: Call) -> Value:
    value, axes = call[0], call.setting(1, "axes")
    gone = (
        {index for index, size in enumerate(value.shape) if size == 1}
        if axes is None
        else {axis_of(axis, value.ndim) for axis in axes}
    )
    if any(value.shape[axis] != 1 for axis in gone):
        raise NoTorchFormError("an axis that it squeezes is longer than 1")
    return reshape(value, [size for index, size in enumerate(value.shape) if index not in gone])


def _unsqueeze(call: Call) -> Value:
    value, axes = call[0], call.setting(1, "axes") or []
    rank = value.ndim + len(axes)
    new = {axis_of(axis, rank) for axis in axes}
    sizes = iter(value.shape)
    return reshape(value, [1 if index in new else next(sizes) for index in range(rank)])


def _transpose(call: Call) -> Value:
    value = call[0]
    order = list(call.get("perm", range(value.ndim)[::-1]))
    return value if order == list(range(value.ndim)) else torch.permute(value, order)


def _expand(call: Call) -> Value:
    wanted = broadcast_shape(call[0].shape, call.integers(1, "shape") or [])
    return call[0] if wanted == list(call[0].shape) else call[0].expand(wanted)


def _tile(call: Call) -> Value:
    repeats = call.integers(1, "repeats") or []
    return call[0] if all(item == 1 for item in repeats) else call[0].repeat(repeats)


def _concat(call: Call) -> Value:
    axis = axis_of(call.get("axis", 1), call[0].ndim)
    # a part without elements adds nothing
    parts = [item for item in call.inputs if item.shape[axis] != 0] or list(call.inputs[:1])
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _split(call: Call) -> Value:
    value, sizes = call[0], call.setting(1, "split")
    axis = axis_of(call.get("axis", 0), value.ndim)
    if sizes is None:
        count = call.get("num_outputs", len(call.outputs))
        sizes = chunk_sizes(value.shape[axis], -(-value.shape[axis] // count))
    return tuple(parts(value, axis, sizes))


def chunk_sizes(total: int, size: int) -> list[int]:
    """Sizes of pieces of at most `size`."""
    return [min(size, total - start) for start in range(0, total, size)]


def part(value: Value, axis: int, start: int, end: int) -> Value:
    """A slice along one axis.

    Args:
        value: a tensor.
        axis: to slice.
        start: first index.
        end: index behind the last.
    """
    if start == 0 and end >= value.shape[axis]:
        return value
    return value[tuple([slice(None)] * axis + [slice(start, end)])]


def parts(value: Value, axis: int, sizes: Sequence[int]) -> list[Value]:
    """Successive slices of these sizes along one axis.

    Args:
        value: a tensor.
        axis: to slice.
        sizes: of the slices.
    """
    ends = itertools.accumulate(sizes)
    return [part(value, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _slice(call: Call) -> Value:
    value = call[0]
    starts, ends = call.setting(1, "starts") or [], call.setting(2, "ends") or []
    axes = call.setting(3, "axes")
    steps = call.integers(4, "steps") or [1] * len(starts)
    axes = list(range(len(starts))) if axes is None else [axis_of(axis, value.ndim) for axis in axes]
    window = [slice(None)] * value.ndim
    turned = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = value.shape[axis]
        picked = range(size)[start:end:step]
        if step < 0:  # torch slices forwards only
            turned.append(axis)
            picked = picked[::-1]
        window[axis] = slice(picked.start, picked.stop, picked.step) if len(picked) else slice(0, 0)
    if any(item != slice(None) and item != slice(0, size, 1) for item, size in zip(window, value.shape, strict=True)):
        last = max(index for index, item in enumerate(window) if item != slice(None))
        value = value[tuple(window[: last + 1])]
    return torch.flip(value, turned) if turned else value


def _constant_of_shape(call: Call) -> Value:
    fill = call.get("value", torch.zeros(1))
    return torch.full(call.integers(0, "shape") or [], scalar(fill), dtype=fill.dtype)


def _constant(call: Call) -> Value:
    value = call.attributes
    if "value" in value:
        return value["value"]
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in value:
            return torch.tensor(value[name], dtype=torch.float32 if "float" in name else torch.int64)
    raise NoTorchFormError("torch has no constants of this kind (strings, sparse tensors)")


def _range(call: Call) -> Value:
    start, end, step = (call.constant(index, name) for index, name in enumerate(("start", "limit", "delta")))
    return torch.arange(scalar(start), scalar(end), scalar(step), dtype=start.dtype)


def _eye_like(call: Call) -> Value:
    rows, columns = call[0].shape
    kind = as_dtype(call.get("dtype")) if "dtype" in call.attributes else call[0].dtype
    return (torch.arange(columns)[None] == torch.arange(rows)[:, None] + call.get("k", 0)).to(kind)


def _trilu(call: Call) -> Value:
    diagonal = scalar(call.constant(1, "diagonal")) if call[1] is not None else 0
    return (torch.triu if call.get("upper", 1) else torch.tril)(call[0], diagonal)


def _depth_to_space(call: Call) -> Value:
    value, block = call[0], call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
        return call.layer(nn.PixelShuffle(block), value)
    batch, channels, height, width = value.shape
    parted = torch.reshape(value, [batch, block, block, channels // block**2, height, width])
    return torch.reshape(
        torch.permute(parted, [0, 3, 4, 1, 5, 2]), [batch, channels // block**2, height * block, width * block]
    )


def _space_to_depth(call: Call) -> Value:
    value, block = call[0], call.get("blocksize")
    batch, channels, height, width = value.shape
    parted = torch.reshape(value, [batch, channels, height // block, block, width // block, block])
    return torch.reshape(
        torch.permute(parted, [0, 3, 5, 1, 2, 4]), [batch, channels * block**2, height // block, width // block]
    )


def _reverse_sequence(call: Call) -> Value:
    value, lengths = call[0], call.integers(1, "sequence_lens") or []
    time, batch = call.get("time_axis", 0), call.get("batch_axis", 1)
    steps = torch.arange(value.shape[time])
    order = torch.stack([torch.where(steps < length, length - 1 - steps, steps) for length in lengths])
    if batch > time:
        order = order.T
    shape = [1] * value.ndim
    shape[time], shape[batch] = value.shape[time], value.shape[batch]
    return torch.gather(value, time, order.reshape(shape).expand(tuple(value.shape)).contiguous())


def _center_crop_pad(call: Call) -> Value:
    value, sizes = call[0], call.integers(1, "shape") or []
    axes: Any = call.get("axes", range(value.ndim))
    for axis, size in zip(axes, sizes, strict=True):
        axis = axis_of(axis, value.ndim)
        extra = size - value.shape[axis]
        if extra < 0:
            start = -extra // 2
            value = part(value, axis, start, start + size)
        elif extra > 0:
            pads = [0, 0] * (value.ndim - 1 - axis) + [extra // 2, extra - extra // 2]
            value = torch.nn.functional.pad(value, pads)
    return value


CONVERTERS: Mapping[str, Converter] = {
    "CenterCropPad": _center_crop_pad,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "EyeLike": _eye_like,
    "Flatten": _flatten,
    "Range": _range,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Trilu": _trilu,
    "Unsqueeze": _unsqueeze,
}
"""Op -> converter."""
