"""Functional layers with constant weights as plain ``torch.nn`` modules, which all later passes know."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgec.model.samples import sample_tensors
from edgec.model.spec import FloatModel
from edgec.passes.contract import PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.passes.fold_constant_padding import set_padding
from edgec.passes.graph_edit import GraphPass, add_module, checked, constant, finish, module_of, own_graph, torch_call
from edgec.passes.node_values import values_of

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

_METHODS = ("relu", "sigmoid", "tanh", "clamp", "clip", "clamp_min")
"""Methods of tensors that are functions of the same name too."""
Build = Callable[[dict[str, Any], int], "nn.Module | None"]
"""From the constant arguments of a call, and its input's rank, to a module; None: the call stays as it is."""


@dataclass(frozen=True)
class RewriteAsModules(GraphPass):
    """Rewrite conv, linear, batch_norm, activations, clamps and zero pads to modules, and named paddings to numbers."""

    name: ClassVar[str] = "rewrite-as-modules"

    def run(self, model: FloatModel, ctx: PassContext) -> PassResult[FloatModel]:
        """Replace each call whose arguments besides the input are constants."""
        graph = own_graph(model)
        builders = _builders()
        values = values_of(graph, sample_tensors(model.inputs, seed=0))
        replaced, coverage = 0, []
        for node in list(graph.graph.nodes):
            if node.op == "call_module":
                replaced += _number_padding(node, graph)
                continue
            key = torch_call(node)
            if key not in builders or (node.op == "call_method" and key not in _METHODS):
                continue
            parameters, build = builders[key]
            try:
                source, arguments = _arguments(node, parameters, graph)
                if source is None or arguments is None or values[source].dtype != "float32":
                    continue
                module = build(arguments, len(values[source].shape))
            except Exception as exc:  # of torch, for arguments that no module can have
                reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
                coverage.append(Coverage(subject=node.name, state="no module", reason=f"{key}: {reason}"))
                continue
            if module is None:
                continue
            name = add_module(graph, _stem(node, key), module)
            with graph.graph.inserting_before(node):
                call = graph.graph.call_module(name, (source,))
            values[call] = values[node]  # what reads it may be rewritten next
            node.replace_all_uses_with(call)
            graph.graph.erase_node(node)
            replaced += 1
            _number_padding(call, graph)
        summary = f"rewrote {replaced} calls to plain modules"
        return PassResult(checked(self.name, model, finish(graph)), summary, tuple(coverage))


def _arguments(node: fx.Node, parameters: tuple[str, ...], graph: fx.GraphModule) -> tuple[Any, dict[str, Any] | None]:
    """The input node, and the other arguments by name; None when one of them depends on the input."""
    from torch import fx

    if len(node.args) > len(parameters) or not set(node.kwargs) <= set(parameters):
        return None, None
    given = dict(zip(parameters, node.args, strict=False)) | dict(node.kwargs)
    source = given.pop(parameters[0], None)
    if not isinstance(source, fx.Node):
        return None, None
    arguments = {}
    for name, value in given.items():
        known, arguments[name] = constant(value, graph)
        if not known:
            return source, None
    return source, arguments


def _stem(node: fx.Node, key: str) -> str:
    """``features.0.conv2d``: in the module whose code makes the call, so that users know it; by the function's name."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack.values()))[0] if stack else ""
    return f"{path}.{key}" if path else f"plain_{key}"


def _builders() -> dict[str, tuple[tuple[str, ...], Build]]:
    from torch import nn

    conv = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    table: dict[str, tuple[tuple[str, ...], Build]] = {
        "conv1d": (conv, lambda given, rank: _conv(nn.Conv1d, given)),
        "conv2d": (conv, lambda given, rank: _conv(nn.Conv2d, given)),
        "conv3d": (conv, lambda given, rank: _conv(nn.Conv3d, given)),
        "linear": (("input", "weight", "bias"), _linear),
        "batch_norm": (
            ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
            _batch_norm,
        ),
        "pad": (("input", "pad", "mode", "value"), _zero_pad),
        "clamp": (("input", "min", "max"), _clamp),
        "clip": (("input", "min", "max"), _clamp),
        "clamp_min": (("input", "min"), _clamp),
    }
    kinds: list[type[nn.Module]] = [nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU, nn.ELU]
    kinds += [nn.Hardswish, nn.Hardsigmoid, nn.Mish, nn.Softplus]
    table |= {kind.__name__.lower(): _activation(kind) for kind in kinds}
    return table | {"leaky_relu": _activation(nn.LeakyReLU)}


def _activation(kind: type[nn.Module]) -> tuple[tuple[str, ...], Build]:
    options = tuple(name for name in inspect.signature(kind).parameters if name != "inplace")
    # an in-place call changes its input for other readers too: the graph stays correct only if it stays in place
    return ("input", *options, "inplace"), lambda given, rank: kind(**given)


def _clamp(given: dict[str, Any], rank: int) -> Any:
    """A clamp by numbers: a ReLU, or what ReLU6 is a kind of; None for others, which may be one-sided."""
    from torch import nn

    low, high = _number(given.get("min")), _number(given.get("max"))
    if low == 0 and high is None:
        return nn.ReLU()
    return nn.Hardtanh(low, high) if low is not None and high is not None and low < high else None


def _number(value: Any) -> float | None:
    import torch

    value = value.item() if isinstance(value, torch.Tensor) and value.numel() == 1 else value
    return float(value) if isinstance(value, (int, float)) else None


def _conv(kind: Any, given: dict[str, Any]) -> Any:
    weight, bias = given["weight"], given.get("bias")
    groups = given.get("groups", 1)
    module = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        stride=_tuple(given.get("stride", 1), weight.dim() - 2),
        padding=given["padding"]
        if isinstance(given.get("padding"), str)
        else _tuple(given.get("padding", 0), weight.dim() - 2),
        dilation=_tuple(given.get("dilation", 1), weight.dim() - 2),
        groups=groups,
        bias=bias is not None,
    )
    return _with_weights(module, weight, bias)


def _tuple(value: Any, length: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return tuple(values * length if len(values) == 1 else values)


def _linear(given: dict[str, Any], rank: int) -> Any:
    from torch import nn

    weight, bias = given["weight"], given.get("bias")
    if weight.dim() != 2:
        return None
    return _with_weights(nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None), weight, bias)


def _with_weights(module: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    from torch import nn

    module.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone())
    return module


def _batch_norm(given: dict[str, Any], rank: int) -> Any:
    """A BatchNorm1d to 3d, by the input's rank, for statistics that are constants."""
    mean, variance = given.get("running_mean"), given.get("running_var")
    if mean is None or variance is None or given.get("training", False):
        return None
    from torch import nn

    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    weight, bias = given.get("weight"), given.get("bias")
    if rank not in kinds or (weight is None) != (bias is None):
        return None
    module = kinds[rank](mean.numel(), eps=given.get("eps", 1e-5), affine=weight is not None)
    module.running_mean, module.running_var = mean.detach().clone(), variance.detach().clone()
    return _with_weights(module, weight, bias) if weight is not None else module


def _zero_pad(given: dict[str, Any], rank: int) -> Any:
    value = given.get("value", 0)
    value = 0 if value is None else _number(value)
    pads = [int(item) for item in given["pad"]]
    while len(pads) > 2 and pads[-2:] == [0, 0]:  # ONNX states all axes, batch and channels included
        pads = pads[:-2]
    if given.get("mode", "constant") != "constant" or value != 0 or len(pads) not in (2, 4, 6):
        return None
    pads += [0, 0] if len(pads) == 2 and len(given["pad"]) > 2 else []
    return _pad_module(pads)


def _pad_module(pads: list[int]) -> Any:
    """The ZeroPad1d to 3d of amounts in torch's order: the innermost axis first."""
    from torch import nn

    return getattr(nn, f"ZeroPad{len(pads) // 2}d")(tuple(pads))


def _number_padding(node: fx.Node, graph: fx.GraphModule) -> int:
    """Write padding="same" or "valid" of a convolution as numbers; "same" may need a pad before it."""
    from torch import nn

    conv: Any = module_of(node, graph)
    if not isinstance(conv, nn.modules.conv._ConvNd) or not isinstance(conv.padding, str):
        return 0
    if conv.padding_mode != "zeros":
        return 0
    totals = [0] * len(conv.kernel_size)
    if conv.padding == "same":
        totals = [span * (taps - 1) for span, taps in zip(conv.dilation, conv.kernel_size, strict=True)]
    if not any(total % 2 for total in totals):
        set_padding(conv, tuple(total // 2 for total in totals))
        return 1
    set_padding(conv, (0,) * len(totals))
    pads = [amount for total in reversed(totals) for amount in (total // 2, total - total // 2)]
    for call in [item for item in graph.graph.nodes if item.op == "call_module" and item.target == node.target]:
        name = add_module(graph, f"{str(node.target).replace('.', '_')}_pad", _pad_module(pads))
        with graph.graph.inserting_before(call):
            call.replace_input_with(call.args[0], graph.graph.call_module(name, (call.args[0],)))
    return 1
