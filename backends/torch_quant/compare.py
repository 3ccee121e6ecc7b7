"""Where the error enters: each layer's output in the quantized graph against the float one's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgec.backends.interface import LayerFidelity
from edgec.backends.torch_quant.collect import call_arguments, spread
from edgec.backends.torch_quant.engines import running
from edgec.backends.torch_quant.layers import layer_nodes
from edgec.backends.torch_quant.model import TorchModel
from edgec.passes.contract import PassContext

if TYPE_CHECKING:
    from torch import fx

SAMPLES = 16


def compare_layers(model: TorchModel, quantized: TorchModel, ctx: PassContext) -> Sequence[LayerFidelity]:
    """SQNR of each layer, with the activation that is part of it, over at most `SAMPLES` calibration samples.

    Layers that quantization has left no node of are left out.

    Args:
        model: the lowered float model.
        quantized: what the passes made of it.
        ctx: holds the calibration samples.
    """
    from edgec.quant.fidelity import SqnrMeter

    samples = ctx.samples("comparing layers")
    there = {node.name: node for node in quantized.graph.graph.nodes}
    layers, calls = layer_nodes(model), quantized.calls or {}
    pairs = {
        name: (_with_activation(nodes[-1], model.graph), _with_activation(there[calls[name]], quantized.graph))
        for name, (_, nodes) in layers.items()
        if name in calls
    }
    meters = {name: SqnrMeter() for name in pairs}
    for index in spread(len(samples), SAMPLES):
        feed = call_arguments(model, samples[index])
        wanted = _values(model, {ours for ours, _ in pairs.values()}, feed, ctx.threads)
        given = _values(quantized, {theirs for _, theirs in pairs.values()}, feed, ctx.threads)
        for name, (ours, theirs) in pairs.items():
            meters[name].add(wanted[ours], given[theirs])
    return [LayerFidelity(layer=name, op=layers[name][0], sqnr_db=meter.sqnr_db) for name, meter in meters.items()]


def _with_activation(node: fx.Node, graph: fx.GraphModule) -> fx.Node:
    """The ReLU or clamp that alone reads `node`, through which it goes in int8 in one kernel; else `node`."""
    from torch import nn

    from edgec.backends.torch_quant.float_call import FloatCall

    users = list(node.users)
    if len(users) != 1 or users[0].op != "call_module":
        return node
    module: Any = graph.get_submodule(str(users[0].target))
    called = module.function if isinstance(module, FloatCall) else module
    return users[0] if isinstance(called, (nn.ReLU, nn.Hardtanh)) else node


def _values(model: TorchModel, nodes: set[fx.Node], feed: Sequence[Any], threads: int) -> Mapping[fx.Node, Any]:
    """What `nodes` give for one sample, as float32 arrays."""
    from torch import fx

    values = {}

    class _Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n in nodes:
                values[n] = (value.dequantize() if value.is_quantized else value.clone()).numpy()
            return value

    with running(model.engine, threads):
        _Recorder(model.graph).run(*[item.clone() for item in feed])
    return values
