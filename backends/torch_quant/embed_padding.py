"""Asymmetric zero padding as part of a convolution's kernel: for torch's quantized kernels, where a pad is slow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgec.passes.fold_constant_padding import can_take_padding, set_padding, zero_padding
from edgec.passes.graph_edit import bypass, call_counts, finish, input_shapes, module_of

if TYPE_CHECKING:
    import torch
    from torch import fx


def embed_asymmetric_padding(graph: fx.GraphModule, example: Sequence[torch.Tensor] | None = None) -> int:
    """Replace each zero pad before convolutions by symmetric padding and a kernel with zeros around it, in place.

    Per axis, pads (before, after) and a kernel of k taps become padding ``P = max(before, after)`` and a kernel of
    ``k + |before - after|`` taps; the result is exact for every stride. Kernels that libraries are tuned for are odd:
    with `example` (one sample, in call order) the kernel gets one more tap where the output size stays the same.
    Convolutions with dilation are left alone, as zeros between taps cannot hold the shift.

    Returns:
        How many pads were removed.
    """
    shapes = input_shapes(graph, example) if example is not None else {}
    counts = call_counts(graph)
    removed = 0
    for node in list(graph.graph.nodes):
        pads = zero_padding(module_of(node, graph))
        if pads is None or not node.users:
            continue
        if not all(_embeddable(user, node, graph, counts) for user in node.users):
            continue
        shape = shapes.get(node.args[0], ())
        for user in node.users:
            _embed(module_of(user, graph), pads, shape[-len(pads) :] if shape else None)
        bypass(node, node.args[0])
        removed += 1
    if removed:
        finish(graph)
    return removed


def _embeddable(user: fx.Node, pad: fx.Node, graph: fx.GraphModule, counts: dict[str, int]) -> bool:
    conv: Any = module_of(user, graph)
    return can_take_padding(user, pad, graph, counts) and all(item == 1 for item in conv.dilation)


def _embed(conv: Any, pads: Sequence[tuple[int, int]], sizes: Sequence[int] | None) -> None:
    import torch

    paddings, kernels, offsets = [], [], []
    for axis, (before, after) in enumerate(pads):
        taps, stride = conv.kernel_size[axis], conv.stride[axis]
        low, high = before + conv.padding[axis], after + conv.padding[axis]
        padding, offset, kernel = max(low, high), max(0, high - low), taps + abs(low - high)
        if sizes is not None and kernel % 2 == 0 and low != high:
            # one more tap and one more padding: output i still reads from i * stride - low
            room = sizes[axis] + low + high - taps
            if (room + 1) // stride == room // stride:
                padding, offset, kernel = padding + 1, offset + 1, kernel + 1
        paddings.append(padding)
        kernels.append(kernel)
        offsets.append(offset)
    weight = torch.zeros(*conv.weight.shape[:2], *kernels, dtype=conv.weight.dtype)
    window = tuple(slice(start, start + size) for start, size in zip(offsets, conv.kernel_size, strict=True))
    weight[(slice(None), slice(None), *window)] = conv.weight.detach()
    conv.weight = torch.nn.Parameter(weight, requires_grad=conv.weight.requires_grad)
    conv.kernel_size = tuple(kernels)
    set_padding(conv, tuple(paddings))
