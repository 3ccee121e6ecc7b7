"""A graph with observers: where torch's quantizer wants a scale, which layers stay in float, and what ranges are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgec.backends import float_regions
from edgec.backends.torch_quant.exclude import softmax_arguments, unusable_nodes
from edgec.backends.torch_quant.kernels import TRANSPOSED, ReducedRange
from edgec.backends.torch_quant.layers import layer_nodes
from edgec.backends.torch_quant.model import TorchModel, copy_of
from edgec.backends.torch_quant.qconfig import Granularity, static_mapping
from edgec.backends.torch_quant.saturate import take_clamps_away

if TYPE_CHECKING:
    from torch import fx

    from edgec.backends.torch_quant.range_observer import RangeObserver

Call = Callable[..., Any]


@dataclass(frozen=True)
class Observed:
    """A float graph with a `RangeObserver` at each tensor to quantize.

    Attributes:
        sources: the names of the nodes each observer sees, by the observer's place in the graph; several where ops
            share one scale (concatenation, pooling).
        outputs: the observers of what the model returns.
        clamps: how many clamps are left to saturation.
        excluded: layers and other calls left in float that the caller did not ask for, and why; the latter also by
            their scopes.
    """

    graph: fx.GraphModule
    sources: tuple[tuple[RangeObserver, tuple[str, ...]], ...]
    outputs: tuple[RangeObserver, ...]
    clamps: int
    excluded: Mapping[str, str]


def observe(
    model: TorchModel,
    weights: Granularity = "per-channel",
    reduced_range: ReducedRange = "no",
    engines: Sequence[str] = (),
    float_layers: Sequence[str] = (),
    dynamic: Sequence[str] = (),
) -> Observed:
    """A private, observed copy of a float graph, in which nothing is observed that 8 bits cannot hold.

    Names of nodes are those of `model`, whatever layers are in float, so statistics of one variant fit all others.
    Layers `dynamic` are in float here, with what is beside them.

    Args:
        model: the lowered float model.
        weights: one scale for each output channel, or one for all.
        reduced_range: whether weights have 7 bits.
        engines: kernel libraries that it is for.
        float_layers: names of layers that stay in float.
        dynamic: names of layers that are quantized as they run.
    """
    from edgec.backends.torch_quant.dynamic_linear import BESIDE, beside
    from edgec.backends.torch_quant.float_call import calls_in_float

    layers = layer_nodes(model)
    nodes = {node.name: node for node in model.graph.graph.nodes}
    refused = unusable_nodes(model.graph, model.statistics or {}) | softmax_arguments(model.graph)
    refused |= model.left_out
    if dynamic or float_layers:
        refused = (
            beside(model, layers, (*dynamic, *float_layers), BESIDE if dynamic else float_regions.BESIDE) | refused
        )
    layer_of = {node.name: name for name, (_, calls) in layers.items() for node in calls}
    in_float = {name: layer_of.get(name, name) for name in refused}
    in_float |= {node.name: name for name in (*float_layers, *dynamic) for node in layers[name][1]}
    mapping = static_mapping(
        weights,
        reduced=reduced_range == "yes",
        reduced_functions=reduced_range == "auto" and tuple(engines) != ("qnnpack",),
        transposed=model.engine in TRANSPOSED,
        float_modules=sorted({str(nodes[name].target) for name in in_float if nodes[name].op == "call_module"}),
    )
    while True:
        graph = copy_of(model.graph)
        scopes = calls_in_float(graph, in_float)
        clamps = take_clamps_away(graph, in_float)
        prepared = _prepare(graph, mapping, model)
        sources = _sources(prepared)
        seen = {name: observer for observer, names in sources for name in names}
        lost = set(clamps) - set(seen)
        if not lost:
            break
        in_float |= {name: name for name in lost}  # torch does not quantize the tensor, so nothing would saturate
    for name, limits in clamps.items():
        seen[name].clamp = limits
    returned = next(node for node in prepared.graph.nodes if node.op == "output").all_input_nodes
    outputs = tuple(watching for node in returned if (watching := _observer_of(node, prepared)) is not None)
    excluded = {layer_of.get(name, name): reason for name, reason in refused.items()}
    excluded |= {scopes[layer]: reason for layer, reason in excluded.items() if layer in scopes}
    return Observed(prepared, sources, outputs, len(clamps), excluded)


def silence_repeats(observed: Observed) -> None:
    """Erase calls of observers whose values are those of tensors that the same observer has just seen, in place.

    Max-pooling, reshaping and concatenation make no new values; averaging makes none beyond the old ones. Ops that
    share a scale would otherwise be counted twice.
    """
    graph = observed.graph
    for node in list(graph.graph.nodes):
        observer = _observer_of(node, graph)
        if observer is None:
            continue
        made = node.args[0]
        before = made.all_input_nodes
        if before and all(_observer_of(item, graph) is observer for item in before):
            node.replace_all_uses_with(made)
            graph.graph.erase_node(node)
    graph.recompile()


def _prepare(graph: fx.GraphModule, mapping: Any, model: TorchModel) -> fx.GraphModule:
    """What ``prepare_fx`` does, without tracing the graph anew: names of nodes stay."""
    fuse, prepare = _torch_steps()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph.delete_all_unused_submodules()
        graph.recompile()
        for node in graph.graph.nodes:
            node.meta = getattr(node, "meta", None) or {}
        fused = fuse(graph, False, None, None)
        modules = dict(fused.named_modules(remove_duplicate=False))
        scopes = {
            node.name: (str(node.target), type(modules[str(node.target)]))
            if node.op == "call_module"
            else ("", type(graph))
            for node in fused.graph.nodes
        }
        prepared: fx.GraphModule = prepare(fused, mapping, False, scopes, example_inputs=model.example)
    return prepared


def _torch_steps() -> tuple[Call, Call]:
    from torch.ao.quantization.fx.fuse import fuse
    from torch.ao.quantization.fx.prepare import prepare

    return fuse, prepare


def _sources(prepared: fx.GraphModule) -> tuple[tuple[RangeObserver, tuple[str, ...]], ...]:
    sources: dict[int, tuple[RangeObserver, list[str]]] = {}
    for node in prepared.graph.nodes:
        observer = _observer_of(node, prepared)
        if observer is not None:
            made: Any = node.args[0]
            sources.setdefault(id(observer), (observer, []))[1].append(made.name)
    return tuple((observer, tuple(names)) for observer, names in sources.values())


def _observer_of(node: fx.Node, graph: fx.GraphModule) -> RangeObserver | None:
    from edgec.backends.torch_quant.range_observer import RangeObserver

    if node.op != "call_module":
        return None
    module = graph.get_submodule(str(node.target))
    return module if isinstance(module, RangeObserver) else None


def statistics_of(names: Sequence[str], statistics: Mapping[str, Any]) -> Any:
    """The statistics of the first of `names` that has some, else None."""
    return next((statistics[name] for name in names if name in statistics), None)
