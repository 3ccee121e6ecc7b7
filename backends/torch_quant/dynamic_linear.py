"""Linear layers whose inputs are quantized as the model runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.ao import quantization
from torch.ao.nn.quantized import dynamic

from edgec.backends.torch_quant.audit import FLOAT
from edgec.backends.torch_quant.kernels import ReducedRange, saturates
from edgec.backends.torch_quant.model import TorchModel
from edgec.backends.torch_quant.qconfig import Granularity, Width, weight_observer
from edgec.backends.torch_quant.unsupported import quantizable_nodes
from edgec.passes.graph_edit import module_of

BESIDE = f"{FLOAT}: the linear layers beside it take float inputs, and quantize them as the model runs"

Layers = Mapping[str, tuple[str, tuple[fx.Node, ...]]]
"""As `layers.layer_nodes` has them."""


class FullRangeLinear(dynamic.Linear):
    """torch's own gives inputs 7 bits on x86, so that no pair of products overflows; here weights see to that.

    Outliers take up most of an input's range: the bit is worth more there.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer gives in float, for inputs of (..., in) in float."""
        packed = self._packed_params._packed_params
        result: torch.Tensor = torch.ops.quantized.linear_dynamic(x, packed, reduce_range=False)
        return result


def dynamic_layers(model: TorchModel, layers: Layers, in_float: Collection[str]) -> tuple[str, ...]:
    """The names of layers that can be dynamic, without those that stay `in_float`, or that int8 cannot take.

    Args:
        model: the lowered float model.
        layers: of the model, by name.
        in_float: names of layers that stay in float.
    """
    return tuple(
        name
        for name, (_, nodes) in layers.items()
        if name not in in_float
        and type(module_of(nodes[0], model.graph)) is nn.Linear
        and not any(node.name in model.left_out for node in nodes)
    )


def beside(model: TorchModel, layers: Layers, names: Sequence[str], reason: str) -> dict[str, str]:
    """Nodes that stay in float where the layers `names` take and make floats; name of the node -> `reason`.

    These are all that follow such a layer up to the next static one, and all that nothing joins to a static one: what
    would otherwise be rounded for nothing (activation functions, attention scores, norms, residual sums).

    Args:
        model: the lowered float model.
        layers: of the model, by name.
        names: of the layers that are dynamic, or in float.
        reason: for the report.
    """
    chosen = {node for name in names for node in layers[name][1]}
    static = {
        node
        for node in model.graph.graph.nodes
        if node not in chosen and isinstance(module_of(node, model.graph), (nn.Linear, nn.modules.conv._ConvNd))
    }
    floats = set(chosen)
    for node in model.graph.graph.nodes:
        if node not in static and floats & {*node.all_input_nodes}:
            floats.add(node)
    joined, pending = set(static), list(static)
    while pending:
        node = pending.pop()
        for beside in (*node.all_input_nodes, *node.users):
            if beside not in floats and beside not in joined:
                joined.add(beside)
                pending.append(beside)
    return {node.name: reason for node in quantizable_nodes(model.graph) if node not in joined and node not in chosen}


def make_dynamic(
    graph: fx.GraphModule, names: Sequence[str], engine: str, weights: Granularity, reduced: ReducedRange, vnni: bool
) -> None:
    """Replace the float linear layers at the paths `names` in a converted graph, in place; `engine` is the current.

    Args:
        graph: the converted graph.
        names: paths of the layers.
        engine: kernel library; the current one of the process.
        weights: one scale for each output channel, or one for all.
        reduced: whether weights have 7 bits.
        vnni: whether the device has int8 dot products.
    """
    for name in names:
        module: Any = graph.get_submodule(name)
        layer: Any = module[0] if isinstance(module, nn.Sequential) else module
        width: Width = "reduced" if reduced == "yes" else "full"
        if reduced == "auto" and saturates(engine, vnni, layer):
            width = "pair"
        integer = _quantized(layer, weight_observer(weights, width))
        # torch has put the activation into one module with its layer
        graph.set_submodule(name, nn.Sequential(integer, *module[1:]).eval() if module is not layer else integer)


def _quantized(layer: nn.Linear, weight: Any) -> FullRangeLinear:
    make_qconfig: Any = quantization.QConfig
    source = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    source.weight = layer.weight
    if layer.bias is not None:
        source.bias = layer.bias
    source.qconfig = make_qconfig(activation=quantization.PlaceholderObserver, weight=weight)
    converted: FullRangeLinear = FullRangeLinear.from_float(source).eval()  # type: ignore[no-untyped-call]
    return converted
