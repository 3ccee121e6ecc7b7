"""Pairs of layers between which scales of channels can be moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgec.passes.graph_edit import module_of, torch_call
from edgec.passes.weight_layers import WeightLayer, is_transposed

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.Identity, nn.modules.dropout._DropoutNd)
"""f(s x) = s f(x) for s > 0."""
_SPATIAL = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.Upsample),
)
"""As above, and each channel by itself."""
_ELEMENTWISE_NAMES = frozenset({"relu", "relu_", "leaky_relu", "contiguous"})
_SPATIAL_NAMES = frozenset(
    {f"{kind}_pool{rank}d" for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for rank in (1, 2, 3)}
    | {"interpolate", "boolean_dispatch"}
)
_RESHAPING_NAMES = frozenset({"flatten", "reshape", "view", "squeeze"})


@dataclass(frozen=True)
class Pair:
    """Two layers joined by ops that keep positive factors of channels.

    Attributes:
        first: its output channels are divided by the factors.
        second: its inputs are multiplied; each channel is `repeat` of them (a flattened image), in a row.
        between: the tensor that `second` reads.
        axis: its channel axis.
        clamps: ReLU6-like nodes on the way, which keep no factors.
    """

    first: WeightLayer
    second: WeightLayer
    between: fx.Node
    axis: int
    repeat: int
    clamps: tuple[fx.Node, ...]


def find_pairs(
    graph: fx.GraphModule, layers: tuple[WeightLayer, ...], shapes: Mapping[fx.Node, tuple[int, ...]]
) -> list[Pair]:
    """All pairs, in the order of their first layers; a layer called twice, or a tensor read twice, is in none.

    Args:
        graph: of the model.
        layers: its layers with weights.
        shapes: of the tensors that its nodes give.
    """
    by_node = {layer.nodes[0]: layer for layer in layers if len(layer.nodes) == 1}
    pairs = []
    for node, layer in by_node.items():
        if (pair := _follow(node, layer, graph, by_node, shapes)) is not None:
            pairs.append(pair)
    return pairs


def clamp_limit(node: fx.Node, graph: fx.GraphModule) -> float | None:
    """Upper limit of a ReLU that is clamped above, if `node` is one."""
    module: Any = module_of(node, graph)
    if isinstance(module, nn.Hardtanh) and float(module.min_val) == 0.0:
        return float(module.max_val)
    return None


def _follow(
    node: fx.Node,
    layer: WeightLayer,
    graph: fx.GraphModule,
    by_node: Mapping[fx.Node, WeightLayer],
    shapes: Mapping[fx.Node, tuple[int, ...]],
) -> Pair | None:
    if node not in shapes:
        return None
    rank = len(shapes[node])
    spatial = len(getattr(layer.module, "kernel_size", ()))
    if spatial and rank != spatial + 2:
        return None  # without a batch axis
    axis, repeat = (1 if spatial else rank - 1), 1
    clamps: list[fx.Node] = []
    current = node
    while True:
        if len(current.users) != 1:
            return None
        following = next(iter(current.users))
        # a tensor beside the data (a shape, a mask) does not form a chain
        if following.all_input_nodes != [current] or following not in shapes or current not in shapes:
            return None
        if second := by_node.get(following):
            takes = _input_axis(second.module, len(shapes[current]))
            return Pair(layer, second, current, axis, repeat, tuple(clamps)) if axis == takes else None
        kind = _kind(following, graph)
        before, after = shapes[current], shapes[following]
        if clamp_limit(following, graph) is not None:
            clamps.append(following)
        elif kind == "elementwise" and before == after:
            pass
        elif kind == "spatial" and axis == 1 and 2 < len(before) == len(after) and before[:2] == after[:2]:
            if repeat != 1:
                return None
        elif kind == "reshaping" and axis == 1 and before[0] == after[0] and _is_flattened(before, after):
            repeat *= math.prod(before[2:])
        elif (
            kind == "mean" and axis == 1 and repeat == 1 and before[:2] == after[:2] and _is_spatial(following, before)
        ):
            pass
        else:
            return None
        current = following


def _input_axis(module: Any, rank: int) -> int | None:
    """The axis that a layer takes for the channels; None for a convolution without a batch axis."""
    if isinstance(module, nn.Linear):
        return rank - 1
    return 1 if rank == len(module.kernel_size) + 2 else None


def _kind(node: fx.Node, graph: fx.GraphModule) -> str:
    if node.op == "call_module":
        module = module_of(node, graph)
        if isinstance(module, _ELEMENTWISE):
            return "elementwise"
        if isinstance(module, nn.Flatten):
            return "reshaping"
        return "spatial" if isinstance(module, _SPATIAL) else ""
    name = torch_call(node)
    if name in _ELEMENTWISE_NAMES:
        return "elementwise"
    if name in _RESHAPING_NAMES:
        return "reshaping"
    if name == "mean":
        return "mean"
    return "spatial" if name in _SPATIAL_NAMES else ""


def _is_flattened(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether the channels' elements stay together, in order: (N, C, H, W) to (N, C H W), or to (N, C, 1)."""
    if len(after) == 2:
        return after[1] == math.prod(before[1:])
    return before[:2] == after[:2] and math.prod(before[2:]) == 1 and math.prod(after[2:]) == 1


def _is_spatial(node: fx.Node, shape: tuple[int, ...]) -> bool:
    """Whether a mean is over axes behind the channels only."""
    given = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis"))
    axes = (given,) if isinstance(given, int) else given
    if not isinstance(axes, (tuple, list)) or not all(isinstance(axis, int) for axis in axes) or not axes:
        return False
    return all(axis % len(shape) >= 2 for axis in axes if isinstance(axis, int))


def magnitudes(module: Any) -> torch.Tensor:
    """Largest tap of each connection, (groups, output channels a group, input channels a group), in float64."""
    weight: torch.Tensor = module.weight.detach().abs().double()
    if isinstance(module, nn.Linear):
        return weight[None]
    taps = weight.reshape(module.groups, -1, weight.shape[1], math.prod(weight.shape[2:])).amax(dim=3)
    return taps.transpose(1, 2) if is_transposed(module) else taps


def scale_outputs(module: Any, factors: torch.Tensor) -> None:
    """Multiply the output channels of a layer, in place."""
    _scale(module, factors, by_row=not is_transposed(module))
    if module.bias is not None:
        module.bias = nn.Parameter(module.bias.detach() * factors)


def scale_inputs(module: Any, factors: torch.Tensor, repeat: int = 1) -> None:
    """Multiply what a layer makes of each input channel, in place.

    Args:
        module: Linear or convolution.
        factors: one for each channel.
        repeat: successive input channels that share a factor.
    """
    _scale(module, factors.repeat_interleave(repeat), by_row=is_transposed(module))


def _scale(module: Any, factors: torch.Tensor, *, by_row: bool) -> None:
    """Multiply the weight along its first axis, or along its second one, whose channels go on from group to group."""
    weight = module.weight.detach()
    if by_row:
        scaled = weight.flatten(1) * factors[:, None]
    else:
        groups = getattr(module, "groups", 1)
        grouped = weight.reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
        scaled = grouped * factors.reshape(groups, 1, -1, 1)
    module.weight = nn.Parameter(scaled.reshape(weight.shape))
