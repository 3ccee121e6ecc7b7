"""Ops on images that sample them at computed places, or put patches together."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.nn import functional

from edgec.model.onnx_torch.call import Call, Converter, NoTorchFormError
from edgec.model.onnx_torch.recorder import Value

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def _grid_sample(call: Call) -> Value:
    mode, padding = call.get("mode", "bilinear"), call.get("padding_mode", "zeros")
    return functional.grid_sample(call[0], call[1], _MODES.get(mode, mode), padding, bool(call.get("align_corners", 0)))


def _affine_grid(call: Call) -> Value:
    return functional.affine_grid(call[0], call.integers(1, "size") or [], bool(call.get("align_corners", 0)))


def _col2im(call: Call) -> Value:
    value = call[0]
    image, block = call.integers(1, "image_shape") or [], call.integers(2, "block_shape") or []
    axes = len(image)
    pads = call.get("pads", [0] * 2 * axes)
    stride, dilation = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    if axes == 2 and pads[:2] == pads[2:]:
        return functional.fold(value, tuple(image), tuple(block), tuple(dilation), tuple(pads[:2]), tuple(stride))
    wide = [size + pads[axis] + pads[axis + axes] for axis, size in enumerate(image)]
    # for each tap of the block and each place of it, the element of the padded image
    flat = torch.zeros([1] * 2 * axes, dtype=torch.int64)
    for axis in range(axes):
        count = (wide[axis] - dilation[axis] * (block[axis] - 1) - 1) // stride[axis] + 1
        taps = torch.arange(block[axis]) * dilation[axis]
        where = taps.reshape([-1] + [1] * (2 * axes - 1 - axis)) + (torch.arange(count) * stride[axis]).reshape(
            [-1] + [1] * (axes - 1 - axis)
        )
        flat = flat * wide[axis] + where
    batch, channels = value.shape[0], value.shape[1] // math.prod(block)
    rows = torch.reshape(value, [batch, channels, -1])
    places = flat.reshape(-1).expand(batch, channels, -1).contiguous()
    empty = torch.zeros(batch, channels, math.prod(wide), dtype=value.dtype)
    padded = torch.reshape(torch.scatter_add(empty, 2, places, rows), [batch, channels, *wide])
    window = [slice(pads[axis], pads[axis] + size) for axis, size in enumerate(image)]
    return padded[(slice(None), slice(None), *window)]


def bilinear(image: Value, rows: Value, columns: Value) -> Value:
    """Samples of [channels, height, width] at places of one shape; zeros are around the image.

    Args:
        image: [channels, height, width].
        rows: in pixels, of any shape.
        columns: in pixels, same shape.
    """
    height, width = image.shape[-2], image.shape[-1]
    top, left = torch.floor(rows), torch.floor(columns)
    flat = torch.reshape(image, [image.shape[0], height * width])
    total = None
    for down in (0.0, 1.0):
        for right in (0.0, 1.0):
            row, column = torch.add(top, down), torch.add(left, right)
            weight = torch.mul(1.0 - torch.abs(torch.sub(rows, row)), 1.0 - torch.abs(torch.sub(columns, column)))
            inside = torch.logical_and(
                torch.logical_and(torch.ge(row, 0), torch.le(row, height - 1)),
                torch.logical_and(torch.ge(column, 0), torch.le(column, width - 1)),
            )
            weight = torch.mul(weight, inside.to(image.dtype))
            place = torch.add(
                torch.mul(torch.clamp(row, 0.0, height - 1.0), float(width)), torch.clamp(column, 0.0, width - 1.0)
            ).to(torch.int64)
            picked = torch.index_select(flat, 1, torch.reshape(place, [-1]))
            piece = torch.mul(torch.reshape(picked, [image.shape[0], *place.shape]), weight)
            total = piece if total is None else torch.add(total, piece)
    return total


def _deform_conv(call: Call) -> Value:
    value, weight, offset, bias, mask = call[0], call[1], call[2], call[3], call[4]
    if value.ndim != 4:
        raise NoTorchFormError("deformable convolution is converted over two axes only")
    batch, channels = value.shape[:2]
    taps = list(weight.shape[2:])
    stride, dilation, pads = call.get("strides", [1, 1]), call.get("dilations", [1, 1]), call.get("pads", [0] * 4)
    groups, parts = call.get("group", 1), call.get("offset_group", 1)
    new = [offset.shape[2], offset.shape[3]]
    count = taps[0] * taps[1]
    starts = [torch.arange(new[axis]) * stride[axis] - pads[axis] for axis in (0, 1)]
    gaps = [torch.arange(taps[axis]) * dilation[axis] for axis in (0, 1)]
    rows = (starts[0].reshape(1, 1, -1, 1) + gaps[0].reshape(-1, 1, 1, 1)).expand(taps[0], taps[1], *new)
    columns = (starts[1].reshape(1, 1, 1, -1) + gaps[1].reshape(1, -1, 1, 1)).expand(taps[0], taps[1], *new)
    moved = torch.reshape(offset, [batch, parts, count, 2, *new])
    masks = None if mask is None else torch.reshape(mask, [batch, parts, count, *new])
    samples = []
    for sample in range(batch):
        pieces = []
        for index in range(parts):
            size = channels // parts
            image = value[sample, index * size : (index + 1) * size]
            down = torch.add(moved[sample, index, :, 0], rows.reshape(count, *new).to(value.dtype))
            right = torch.add(moved[sample, index, :, 1], columns.reshape(count, *new).to(value.dtype))
            sampled = bilinear(image, down, right)
            pieces.append(sampled if masks is None else torch.mul(sampled, masks[sample, index]))
        samples.append(torch.cat(pieces, 0))
    columns_of = torch.reshape(torch.stack(samples), [batch, groups, channels // groups * count, new[0] * new[1]])
    outputs = weight.shape[0]
    matrix = torch.reshape(weight, [1, groups, outputs // groups, channels // groups * count])
    result = torch.reshape(torch.matmul(matrix, columns_of), [batch, outputs, *new])
    return result if bias is None else torch.add(result, torch.reshape(bias, [1, -1, 1, 1]))


def _roi_align(call: Call) -> Value:
    value, boxes, owners = call[0], call.constant(1, "rois"), call.integers(2, "batch_indices") or []
    high, wide = call.get("output_height", 1), call.get("output_width", 1)
    scale, ratio = call.get("spatial_scale", 1.0), call.get("sampling_ratio", 0)
    halved = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 16 else "output_half_pixel")
    shift = 0.5 if halved == "half_pixel" else 0.0
    height, width = value.shape[2], value.shape[3]
    regions = []
    for box, owner in zip(boxes.tolist(), owners, strict=True):
        left, top, right, bottom = (edge * scale - shift for edge in box)
        tall, broad = bottom - top, right - left
        if halved != "half_pixel":
            tall, broad = max(tall, 1.0), max(broad, 1.0)
        counts = [ratio or max(1, -int(-size // new)) for size, new in ((tall, high), (broad, wide))]
        rows = _sample_places(top, tall, high, counts[0])
        columns = _sample_places(left, broad, wide, counts[1])
        inside = ((rows >= -1) & (rows <= height))[:, None] & ((columns >= -1) & (columns <= width))[None]
        down = rows.clamp(0, height - 1)[:, None].expand(rows.numel(), columns.numel())
        across = columns.clamp(0, width - 1)[None].expand(rows.numel(), columns.numel())
        regions.append(_pooled(value[owner], down, across, inside, (high, counts[0], wide, counts[1]), call))
    return torch.stack(regions)


def _pooled(
    image: Value, down: torch.Tensor, across: torch.Tensor, inside: torch.Tensor, shape: tuple[int, ...], call: Call
) -> Value:
    if call.get("mode", "avg") == "avg":
        samples = torch.mul(bilinear(image, down, across), inside.to(image.dtype))
        return torch.mean(torch.reshape(samples, [image.shape[0], *shape]), [2, 4])
    # the largest of the four weighted neighbours, not of their sum
    height, width = image.shape[1], image.shape[2]
    flat = torch.reshape(image, [image.shape[0], height * width])
    top, left = down.floor(), across.floor()
    largest: Value = None
    for low in (0, 1):
        for right in (0, 1):
            weight = (1 - (down - top - low).abs()) * (1 - (across - left - right).abs()) * inside
            place = (top + low).clamp(0, height - 1) * width + (left + right).clamp(0, width - 1)
            picked = torch.index_select(flat, 1, place.reshape(-1).to(torch.int64))
            piece = torch.mul(torch.reshape(picked, [image.shape[0], *place.shape]), weight)
            largest = piece if largest is None else torch.maximum(largest, piece)
    return torch.amax(torch.reshape(largest, [image.shape[0], *shape]), [2, 4])


def _sample_places(start: float, size: float, new: int, count: int) -> torch.Tensor:
    step = size / new
    inner = (torch.arange(count) + 0.5) * step / count
    return (start + torch.arange(new)[:, None] * step + inner[None]).reshape(-1)


CONVERTERS: Mapping[str, Converter] = {
    "AffineGrid": _affine_grid,
    "Col2Im": _col2im,
    "DeformConv": _deform_conv,
    "GridSample": _grid_sample,
    "RoiAlign": _roi_align,
}
"""Op -> converter."""
