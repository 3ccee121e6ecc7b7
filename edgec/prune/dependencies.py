"""Channels that can only go together, as torch-pruning finds them.

Fang et al. 2023, DepGraph: Towards Any Structural Pruning, https://arxiv.org/abs/2301.12900.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning
from torch import fx, nn

from edgec.model.outputs import tensors_of
from edgec.prune.whole import WEIGHTED, Reasons, prunable_layers

Group = Any
"""A ``torch_pruning`` group: dependencies (a module, and how it shrinks) with the indices that go."""


@dataclass(frozen=True)
class ChannelGroup:
    """Layers whose output channels are the same ones: they lose them together."""

    root: str
    """The layer that stands for the group."""
    layers: tuple[str, ...]
    """Convolutions and linear layers whose output channels are in it, `root` among them."""
    channels: int
    """Output channels of `root`."""
    units: tuple[tuple[int, ...], ...]
    """Channels of `root` that go together (as many in each group of a grouped convolution): a partition of them."""


@dataclass
class Kept:
    """Which channels of a module are left, by their places in the unpruned one."""

    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)


class Dependencies:
    """The dependencies within one graph; removing channels changes the graph.

    Args:
        graph: its parameters require gradients afterwards: dependencies are read off the autograd graph.
        example: one sample's inputs.
    """

    def __init__(self, graph: fx.GraphModule, example: Sequence[torch.Tensor]) -> None:
        self.graph = graph
        self.layers = prunable_layers(graph)
        self._names = {module: name for name, module in graph.named_modules()}
        for value in graph.parameters():
            value.requires_grad_(value.is_floating_point())
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._graph = torch_pruning.DependencyGraph().build_dependency(
                graph, [item.clone() for item in example], output_transform=tensors_of, verbose=False
            )

    def groups(self, outputs: Reasons, alone: Reasons) -> Iterator[tuple[Group, ChannelGroup, str]]:
        """All groups, with the reason why they cannot lose channels (or an empty string).

        Args:
            outputs: modules whose output channels stay.
            alone: modules that cannot change at all.
        """
        seen: set[nn.Module] = set()
        for name, layer in self.layers.items():
            if layer in seen or layer not in self._graph.module2node:
                continue
            count = self._graph.get_out_channels(layer)
            group = self._all_of(layer, range(count))
            made = [dep.layer for dep, _ in group if self._is_output(dep)]
            seen.update(item for item in made if isinstance(item, nn.Module))
            members = tuple(dict.fromkeys(self._names[item] for item in made if isinstance(item, WEIGHTED)))
            reason = next((outputs[item] for item in made if item in outputs), "")
            reason = reason or next((self._tie(dep, alone) for dep, _ in group if self._tie(dep, alone)), "")
            yield group, ChannelGroup(name, members, count, self._units(group, count)), reason

    def coupled(self, group: ChannelGroup) -> ChannelGroup:
        """`group` with the units that an op (a gate of two halves) makes of single channels."""
        layer = self.layers[group.root]
        unit_of = {index: number for number, unit in enumerate(group.units) for index in unit}
        for index in range(group.channels):
            joined = {unit_of[item] for item in self._all_of(layer, [index])[0].idxs}
            unit_of = {item: min(joined) if number in joined else number for item, number in unit_of.items()}
        units: dict[int, list[int]] = {}
        for index in range(group.channels):
            units.setdefault(unit_of[index], []).append(index)
        return ChannelGroup(group.root, group.layers, group.channels, tuple(tuple(unit) for unit in units.values()))

    def remove(self, root: str, channels: Sequence[int], kept: dict[nn.Module, Kept]) -> bool:
        """Remove channels of one group, and note in `kept` what is left of each module.

        Returns:
            Whether just these went; if not, nothing was done: others would have to go too.
        """
        group = self._all_of(self.layers[root], channels)
        if sorted(group[0].idxs) != sorted(channels) or not self._graph.check_pruning_group(group):
            return False
        for dep, places in group:
            if isinstance(dep.layer, nn.Module) and dep.layer in self._names:
                self._note(dep, set(places), kept)
        group.prune(record_history=False)
        return True

    def _note(self, dep: Any, gone: set[int], kept: dict[nn.Module, Kept]) -> None:
        if dep.layer not in kept:
            sizes = [self._graph.get_in_channels(dep.layer), self._graph.get_out_channels(dep.layer)]
            kept[dep.layer] = Kept(*(list(range(size or 0)) for size in sizes))
        left = kept[dep.layer]
        if self._graph.is_in_channel_pruning_fn(dep.handler):
            left.inputs = [item for place, item in enumerate(left.inputs) if place not in gone]
        if self._is_output(dep):
            left.outputs = [item for place, item in enumerate(left.outputs) if place not in gone]

    def _all_of(self, layer: nn.Module, channels: Sequence[int]) -> Group:
        prune: Callable[..., Any] = self._graph.get_pruner_of_module(layer).prune_out_channels
        group = self._graph.get_pruning_group(layer, prune, list(channels))
        for item in group.items:
            # importances sort the indices without those they belong to
            pairs = sorted(zip(item.idxs, item.root_idxs, strict=True))
            item.idxs[:] = [index for index, _ in pairs]
            item.root_idxs = [root for _, root in pairs]
        return group

    def _is_output(self, dep: Any) -> bool:
        return bool(self._graph.is_out_channel_pruning_fn(dep.handler))

    def _tie(self, dep: Any, alone: Reasons) -> str:
        """Why what a dependency ends at cannot shrink."""
        target = dep.target
        if target.type == self._graph.ops.OPTYPE.OUTPUT:
            return "an output of the model is made of them"
        if target.type == self._graph.ops.OPTYPE.PARAMETER:
            read = {str(node.target) for node in self.graph.graph.nodes if node.op == "get_attr"}
            name = self._graph._param_to_name[target.module]
            return "" if name in read else f"{name} needs them"
        return alone.get(dep.layer, "")

    def _units(self, group: Group, channels: int) -> tuple[tuple[int, ...], ...]:
        """One channel each, or as many as there are groups in a grouped convolution or GroupNorm."""
        ways = 1
        for dep, _ in group:
            layer = dep.layer
            if isinstance(layer, nn.GroupNorm):
                ways = math.lcm(ways, layer.num_groups)
            elif isinstance(layer, nn.modules.conv._ConvNd):
                depthwise = layer.groups == layer.out_channels == layer.in_channels
                ways = math.lcm(ways, 1 if depthwise else layer.groups)
        if channels % ways:
            return (tuple(range(channels)),)
        size = channels // ways
        return tuple(tuple(range(place, channels, size)) for place in range(size))
