"""What of a graph torch can quantize one by one, by name, and what became of it."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from edgec.backends.interface import Layer
from edgec.backends.torch_quant.functions_read import functions_read
from edgec.backends.torch_quant.kernels import TRANSPOSED
from edgec.backends.torch_quant.model import TorchModel
from edgec.errors import PassError
from edgec.toml_source import suggest

if TYPE_CHECKING:
    from torch import fx


def layers(model: TorchModel) -> tuple[Layer, ...]:
    """Products, sums and norms of a float graph, in execution order.

    Modules go by their path, whatever number of calls they have; functions by their node's name.
    """
    return tuple(Layer(name=name, op=op) for name, (op, _) in layer_nodes(model).items())


def layer_nodes(model: TorchModel) -> dict[str, tuple[str, tuple[fx.Node, ...]]]:
    """For each layer of a float graph its op, and the nodes that call it."""
    floats = _float_nodes(model)
    functions = _function_calls(model)
    nodes_of: dict[str, tuple[str, tuple[fx.Node, ...]]] = {}
    modules = dict(model.graph.named_modules(remove_duplicate=False))
    for node in model.graph.graph.nodes:
        op = _op_of(node, model)
        if not op or node not in floats or node in functions:
            continue
        name = str(node.target) if node.op == "call_module" else node.name
        if node.op == "call_function" and name in modules:
            name += "_call"
        nodes_of[name] = (op, (*nodes_of[name][1], node) if name in nodes_of else (node,))
    return nodes_of


def _function_calls(model: TorchModel) -> set[fx.Node]:
    """Calls of activation functions that alone read what a layer makes: they stay in float where it does."""
    functions = functions_read(model.graph)
    nodes = [node for node in model.graph.graph.nodes if node.name in functions and _op_of(node, model)]
    return {user for node in nodes for user in node.users}


def check_names(names: Sequence[str], known: Mapping[str, Any], where: str) -> None:
    """That `names` are all layers.

    Args:
        names: that should be of layers.
        known: all layers by name.
        where: for messages.

    Raises:
        PassError: one is not.
    """
    for name in names:
        if name not in known:
            hint = suggest(name, known) or "`edgec analyze` lists the layers"
            raise PassError(f'"{name}" is not a layer that torch can quantize', where=where, hint=hint)


def calls_after(
    converted: fx.GraphModule, observed: fx.GraphModule, names: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Which node of a converted graph computes each layer.

    The quantizer keeps the names of modules' nodes, and makes new nodes for functions, in the old order.

    Args:
        converted: the result.
        observed: what it was converted from.
        names: for each layer, the names of its nodes in the float graph.
    """
    present = {node.name: node.name for node in converted.graph.nodes if node.op == "call_module"}
    for family in sorted(set(_families().values())):
        before, after = (
            [node.name for node in graph.graph.nodes if _families().get(node.target) == family]
            for graph in (observed, converted)
        )
        if len(before) == len(after):
            present |= dict(zip(before, after, strict=True))
    # what stayed in float is a module called like the layer, whose node has the next free name
    wrapped = {str(node.target): node.name for node in converted.graph.nodes if node.op == "call_module"}
    calls = {}
    for layer, nodes in names.items():
        # of a layer that is called several times, the last call has the errors of all
        call = present.get(nodes[-1]) or wrapped.get(layer)
        if call is not None:
            calls[layer] = call
    return calls


def float_layers_of(converted: fx.GraphModule, calls: Mapping[str, str]) -> list[str]:
    """Which layers compute in float, given the node of each."""
    nodes = {node.name: node for node in converted.graph.nodes}
    names = []
    for layer, name in calls.items():
        node = nodes[name]
        if node.op == "call_module":
            integer = is_integer_module(converted.get_submodule(str(node.target)))
        else:
            integer = "quantized" in str(node.target)
        if not integer:
            names.append(layer)
    return names


def is_integer_module(module: Any) -> bool:
    """Whether a module of a converted graph holds int8 weights; reference modules compute in float."""
    kinds = [type(part).__module__ for part in module.modules()]
    return any("quantized" in kind and "reference" not in kind for kind in kinds)


def _op_of(node: fx.Node, model: TorchModel) -> str:
    if node.op == "call_function":
        return _functions().get(node.target, "")
    if node.op != "call_module":
        return ""
    from torch import nn

    module: Any = model.graph.get_submodule(str(node.target))
    axes = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
    if type(module) in axes:
        depthwise = module.groups > 1 and module.groups == module.in_channels
        return f"{'depthwise-' if depthwise else ''}conv{axes[type(module)]}d"
    transposed = {nn.ConvTranspose1d: 1, nn.ConvTranspose2d: 2, nn.ConvTranspose3d: 3}
    if type(module) in transposed:
        return f"conv-transpose{transposed[type(module)]}d" if model.engine in TRANSPOSED else ""
    return _modules().get(type(module), "")


@cache
def _modules() -> dict[Any, str]:
    from torch import nn

    return {
        nn.Linear: "linear",
        nn.BatchNorm2d: "batch-norm",
        nn.BatchNorm3d: "batch-norm",
        nn.LayerNorm: "layer-norm",
        nn.InstanceNorm1d: "instance-norm",
        nn.InstanceNorm2d: "instance-norm",
        nn.InstanceNorm3d: "instance-norm",
    }


@cache
def _functions() -> dict[Any, str]:
    import torch

    call: Any = torch.nn.functional
    return {
        operator.add: "add",
        torch.add: "add",
        operator.mul: "mul",
        torch.mul: "mul",
        torch.matmul: "matmul",
        call.linear: "linear",
        call.conv1d: "conv1d",
        call.conv2d: "conv2d",
        call.conv3d: "conv3d",
    }


@cache
def _families() -> dict[Any, str]:
    """Functions of float and of converted graphs, by what they compute."""
    import torch

    quantized: Any = torch.ops.quantized
    kernels = {
        "add": ("add", "add_relu", "add_scalar", "add_scalar_relu"),
        "mul": ("mul", "mul_relu", "mul_scalar", "mul_scalar_relu"),
        "matmul": ("matmul",),
        "linear": ("linear", "linear_relu"),
        "conv1d": ("conv1d", "conv1d_relu"),
        "conv2d": ("conv2d", "conv2d_relu"),
        "conv3d": ("conv3d", "conv3d_relu"),
    }
    return _functions() | {getattr(quantized, name): op for op, names in kernels.items() for name in names}


def _float_nodes(model: TorchModel) -> set[fx.Node]:
    """Nodes whose value is a float32 tensor made of one at least: sums of sizes and of ids are not layers."""
    import torch
    from torch import fx

    float_nodes: set[fx.Node] = set()

    class _Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
                float_nodes.add(n)
            return value

    with torch.no_grad():
        _Recorder(model.graph).run(*[item.clone() for item in model.example])
    return float_nodes
