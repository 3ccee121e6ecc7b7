"""Functions of torch that the ONNX exporter lacks, computed by ones that it has. Imports torch: only within functions.

Shapes are fixed where models are exported, so they are numbers here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class PlainOps(TorchFunctionMode):
    """While it is entered, the functions of the table below are computed by others."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The plain form's result, where there is one and it takes these arguments."""
        plain = _PLAIN.get(func)
        found = plain(*args, **(kwargs or {})) if plain is not None else NotImplemented
        return func(*args, **(kwargs or {})) if found is NotImplemented else found


def _rms_norm(
    input: torch.Tensor, normalized_shape: Sequence[int], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    axes = list(range(-len(normalized_shape), 0))
    epsilon = torch.finfo(input.dtype).eps if eps is None else eps
    scaled = input * torch.rsqrt(input.square().mean(axes, keepdim=True) + epsilon)
    return scaled if weight is None else scaled * weight


def _threshold(input: torch.Tensor, threshold: float, value: float, inplace: bool = False) -> Any:
    return NotImplemented if inplace else torch.where(input > threshold, input, torch.full_like(input, value))


def _affine_grid(theta: torch.Tensor, size: Sequence[int], align_corners: bool | None = None) -> Any:
    if len(size) != 4:
        return NotImplemented
    rows, columns = (_positions(int(count), bool(align_corners)) for count in size[2:])
    grid = torch.stack(
        [columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns)), torch.ones(len(rows), len(columns))], -1
    )
    flat = grid.reshape(1, -1, 3) @ theta.transpose(1, 2)
    return flat.reshape(int(size[0]), len(rows), len(columns), 2)


def _positions(count: int, align_corners: bool) -> torch.Tensor:
    """`count` places from -1 to 1: of the outer pixels' centres, or of all pixels' centres between the edges."""
    if align_corners:
        return torch.linspace(-1, 1, count) if count > 1 else torch.zeros(1)
    return (torch.arange(count) * 2 + 1) / count - 1


def _bilinear(
    input1: torch.Tensor, input2: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    found = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return found if bias is None else found + bias


def _adaptive_pool(reduce: Callable[[torch.Tensor, int], torch.Tensor], rank: int) -> Callable[..., Any]:
    """Pooling to a size that does not divide the input's: each axis by slices."""

    def pool(input: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
        stated = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * rank
        sizes = [int(size) for size in input.shape[-rank:]]
        wanted = [size if item is None else int(item) for item, size in zip(stated, sizes, strict=True)]
        if return_indices or all(size % count == 0 for size, count in zip(sizes, wanted, strict=True)):
            return NotImplemented
        for axis, (size, count) in enumerate(zip(sizes, wanted, strict=True), start=-rank):
            if size != count:
                # the ends of the windows as torch computes them: floor and ceiling
                spans = [(at * size // count, -(-(at + 1) * size // count)) for at in range(count)]
                parts = [reduce(input.narrow(axis, start, end - start), axis) for start, end in spans]
                input = torch.cat(parts, axis)
        return input

    return pool


def _mean(window: torch.Tensor, axis: int) -> torch.Tensor:
    return window.mean(axis, keepdim=True)


def _amax(window: torch.Tensor, axis: int) -> torch.Tensor:
    return window.amax(axis, keepdim=True)


_PLAIN: dict[Any, Callable[..., Any]] = {
    functional.rms_norm: _rms_norm,
    functional.bilinear: _bilinear,
    functional.threshold: _threshold,
    functional.affine_grid: _affine_grid,
    functional.adaptive_avg_pool1d: _adaptive_pool(_mean, 1),
    functional.adaptive_avg_pool2d: _adaptive_pool(_mean, 2),
    functional.adaptive_avg_pool3d: _adaptive_pool(_mean, 3),
    functional.adaptive_max_pool1d: _adaptive_pool(_amax, 1),
    functional.adaptive_max_pool2d: _adaptive_pool(_amax, 2),
    functional.adaptive_max_pool3d: _adaptive_pool(_amax, 3),
}
