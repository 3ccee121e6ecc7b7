"""Functions of torch that the ONNX exporter lacks, computed by ones that it has.

Shapes are fixed where models are exported, so they are numbers here.
"""

from __future__ import annotations

import math
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
        result = plain(*args, **(kwargs or {})) if plain is not None else NotImplemented
        return func(*args, **(kwargs or {})) if result is NotImplemented else result


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
    product = (torch.einsum("...i,oij->...oj", input1, weight) * input2.unsqueeze(-2)).sum(-1)
    return product if bias is None else product + bias


def _channel_shuffle(input: torch.Tensor, groups: int) -> torch.Tensor:
    first, channels, *rest = input.shape
    split = input.reshape(first, groups, channels // groups, *rest)
    return split.transpose(1, 2).reshape(first, channels, *rest)


def _diff(
    input: torch.Tensor, n: int = 1, dim: int = -1, prepend: torch.Tensor | None = None, append: Any = None
) -> Any:
    if n != 1 or prepend is not None or append is not None:
        return NotImplemented
    size = int(input.shape[dim])
    return input.narrow(dim, 1, size - 1) - input.narrow(dim, 0, size - 1)


def _logaddexp(input: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.maximum(input, other) + torch.log1p(torch.exp(-torch.abs(input - other)))


def _adaptive_pool(reduce: Callable[..., torch.Tensor], rank: int) -> Callable[..., Any]:
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
                parts = [reduce(input.narrow(axis, start, end - start), axis, keepdim=True) for start, end in spans]
                input = torch.cat(parts, axis)
        return input

    return pool


def _function(name: str, rank: int) -> Any:
    """``functional.NAME2d`` for rank 2."""
    return getattr(functional, f"{name}{rank}d")


def _interpolate(input: torch.Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", *rest: Any,
                 **options: Any) -> Any:  # fmt: skip
    rank = input.dim() - 2
    if mode not in ("area", "nearest-exact") or rest or options.get("recompute_scale_factor"):
        return NotImplemented
    sides = [int(side) for side in input.shape[2:]]
    given = size if size is not None else scale_factor
    each = tuple(given) if isinstance(given, (tuple, list)) else (given,) * rank
    wanted = [int(item if size is not None else side * item) for item, side in zip(each, sides, strict=True)]
    if mode == "area":
        pooled = _adaptive_pool(torch.mean, rank)(input, wanted)
        return _function("adaptive_avg_pool", rank)(input, wanted) if pooled is NotImplemented else pooled
    if size is None and any(side * item != int(side * item) for item, side in zip(each, sides, strict=True)):
        return NotImplemented  # the scale itself then decides, not the sizes
    for axis, (side, count) in enumerate(zip(sides, wanted, strict=True), start=2):
        nearest = [min(int((at + 0.5) * side / count), side - 1) for at in range(count)]
        input = input.index_select(axis, torch.tensor(nearest))
    return input


def _take_along_dim(input: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> Any:
    same = dim is not None and input.dim() == indices.dim()
    others = [axis for axis in range(input.dim()) if axis != (dim or 0) % max(input.dim(), 1)]
    if not same or any(input.shape[axis] != indices.shape[axis] for axis in others):
        return NotImplemented
    return input.gather(dim, indices)  # type: ignore[arg-type]


def _count_nonzero(input: torch.Tensor, dim: Any = None) -> torch.Tensor:
    nonzero = (input != 0).to(torch.int64)
    return nonzero.sum() if dim is None else nonzero.sum(dim)


def _of_each(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """`function`, for calls with the tensor alone."""
    return lambda input, *rest, **options: NotImplemented if rest or options else function(input)


_ELEMENTWISE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "trunc": lambda x: x.sign() * x.abs().floor(),
    "frac": lambda x: x - x.sign() * x.abs().floor(),
    "exp2": lambda x: torch.exp(x * math.log(2)),
    "sinh": lambda x: (x.exp() - (-x).exp()) / 2,
    "cosh": lambda x: (x.exp() + (-x).exp()) / 2,
    "erfc": lambda x: 1 - x.erf(),
    "expm1": lambda x: x.exp() - 1,
    "sgn": lambda x: x.sign(),
    "asinh": lambda x: x.sign() * torch.log(x.abs() + torch.sqrt(x * x + 1)),
    "acosh": lambda x: torch.log(x + torch.sqrt(x * x - 1)),
    "atanh": lambda x: 0.5 * torch.log((1 + x) / (1 - x)),
}
"""Functions of one tensor alone that are both in `torch` and methods."""
_BOTH: dict[str, Callable[..., Any]] = {
    **{name: _of_each(function) for name, function in _ELEMENTWISE.items()},
    "take_along_dim": _take_along_dim,
    "count_nonzero": _count_nonzero,
    "diff": _diff,
    "logaddexp": _logaddexp,
}
"""All functions that are both."""

_PLAIN: dict[Any, Callable[..., Any]] = {
    **{getattr(home, name): plain for home in (torch, torch.Tensor) for name, plain in _BOTH.items()},
    **{_function("adaptive_avg_pool", rank): _adaptive_pool(torch.mean, rank) for rank in (1, 2, 3)},
    **{_function("adaptive_max_pool", rank): _adaptive_pool(torch.amax, rank) for rank in (1, 2, 3)},
    torch.Tensor.mT.__get__: lambda input, *owner: input.transpose(-2, -1),  # type: ignore[attr-defined]
    torch.hypot: lambda input, other: torch.sqrt(input * input + other * other),
    functional.interpolate: _interpolate,
    functional.rms_norm: _rms_norm,
    functional.bilinear: _bilinear,
    torch.channel_shuffle: _channel_shuffle,
    functional.threshold: _threshold,
    functional.affine_grid: _affine_grid,
}
