"""A float model made ready for training, and what training made of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from edgec.passes.coverage import Coverage
from edgec.passes.graph_edit import add_module
from edgec.passes.weight_layers import WeightLayer, weight_layers
from edgec.quant.recipe import WeightGrid
from edgec.train.fake_quantize import ActivationRange, GridWeight, clip_to_grid, place_on_grid
from edgec.train.loop import Learner
from edgec.train.places import places

Inputs = Sequence[torch.Tensor]


class TrainableModel(Learner):
    """The float model with weights on a backend's grid and activations in 8 bits, all differentiable.

    BatchNorm and dropout stay as in inference, whatever mode is asked for: normalization is part of the weights by
    now, and a BatchNorm that could not be folded keeps its statistics and its scale.

    Args:
        graph: of the float model after the portable passes; left untouched.
        grid: of the weights.
        sample: one sample's inputs.
        activations: whether to quantize them too.
        keep_zeros: weights that are exactly zero in `graph` stay so, as pruning has made them.
    """

    def __init__(
        self, graph: fx.GraphModule, grid: WeightGrid, sample: Inputs, *, activations: bool, keep_zeros: bool = False
    ) -> None:
        super().__init__(graph)
        self._grid = grid
        layers, self.coverage = weight_layers(self.graph)
        self.layers: tuple[WeightLayer, ...] = layers
        if activations:
            self._insert(sample)
        for part in self.graph.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase):
                part.requires_grad_(False)
        self._zeros: dict[str, torch.Tensor] = {}
        """By layer, true where a weight stays zero."""
        for layer in self.layers:
            if keep_zeros:
                self._zeros[layer.name] = layer.module.weight.detach() == 0
            with torch.no_grad():
                clipped = clip_to_grid(layer.module, layer.module.weight, grid)
                layer.module.weight = nn.Parameter(clipped.detach().clone())
            parametrize.register_parametrization(layer.module, "weight", GridWeight(layer.module, grid))
        self.train()

    def _insert(self, sample: Inputs) -> None:
        names: dict[fx.Node, str] = {}
        edited = self.graph.graph
        for place in places(self.graph, _float_nodes(self.graph, sample)):
            if place.range_of not in names:
                names[place.range_of] = add_module(self.graph, "activation_range", ActivationRange(place.fixed))
            with edited.inserting_after(place.node):
                rounded = edited.call_module(names[place.range_of], (place.node,))
            for reader in place.readers or tuple(place.node.users):
                if reader is not rounded:
                    reader.replace_input_with(place.node, rounded)
        edited.lint()
        self.graph.recompile()

    @property
    def ranges(self) -> list[ActivationRange]:
        """Of all tensors that are quantized."""
        return [module for module in self.graph.modules() if isinstance(module, ActivationRange)]

    def observe(self, samples: Iterable[Inputs]) -> None:
        """Set all ranges to the extremes over `samples`."""
        for item in self.ranges:
            item.begin()
        with torch.no_grad():
            for sample in samples:
                self(*[one.clone() for one in sample])
        for item in self.ranges:
            item.end()

    def follow(self, follow: bool) -> None:
        """Whether ranges move with the batches from now on."""
        for item in self.ranges:
            item.following = follow

    @contextlib.contextmanager
    def step(self, done: float, samples: int) -> Iterator[None]:
        """One training step: ranges move with the batches in the first half of it all, and kept zeros do not move."""
        self.follow(done < 0.5)
        try:
            yield
        finally:
            self.follow(False)
        self.hold_zeros()

    @torch.no_grad()
    def hold_zeros(self) -> None:
        """Set weights to zero again that are kept so."""
        for layer in self.layers:
            if layer.name in self._zeros:
                layer.module.parametrizations.weight.original.masked_fill_(self._zeros[layer.name], 0.0)

    def left_float(self) -> tuple[Coverage, ...]:
        """What is trained, but not for its codes."""
        kept = [
            Coverage(subject=node.name, state="not simulated", reason=module.refused)
            for node in self.graph.graph.nodes
            if node.op == "call_module"
            and isinstance(module := self.graph.get_submodule(str(node.target)), ActivationRange)
            if module.refused
        ]
        notes = [
            Coverage(subject=item.subject, state="not simulated", reason=f"trained without a grid: {item.reason}")
            for item in self.coverage
        ]
        return (*notes, *kept)

    @torch.no_grad()
    def place(self) -> None:
        """Round the weights to their codes for good."""
        for layer in self.layers:
            original: torch.Tensor = layer.module.parametrizations.weight.original
            original.copy_(place_on_grid(layer.module, original, self._grid))

    @torch.no_grad()
    def into(self, graph: fx.GraphModule) -> fx.GraphModule:
        """Copy parameters into `graph`, a copy of the float graph that this was made of."""
        placed = {layer.name for layer in self.layers}
        for layer in self.layers:
            module: Any = graph.get_submodule(layer.name)
            before = module.weight.requires_grad
            value = place_on_grid(layer.module, layer.module.parametrizations.weight.original, self._grid)
            module.weight = nn.Parameter(value.clone(), requires_grad=before)
        own = dict(graph.named_parameters(remove_duplicate=False))
        for name, value in self.graph.named_parameters(remove_duplicate=False):
            if ".parametrizations." not in name and name.removesuffix(".weight") not in placed:
                own[name].copy_(value)
        return graph


def _float_nodes(graph: fx.GraphModule, sample: Inputs) -> set[fx.Node]:
    """Nodes whose result is one tensor of float32, and that are not constants."""
    nodes: set[fx.Node] = set()

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and n.op != "get_attr":
                nodes.add(n)
            return value

    with torch.no_grad():
        Recorder(graph).run(*[item.clone() for item in sample])
    return nodes
