"""What torch's quantizer would touch and its int8 kernels cannot take, known from kinds, dtypes and shapes alone.

What no rule here knows is found by trying (`search`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from edgec.backends.torch_quant.audit import FLOAT
from edgec.backends.torch_quant.float_regions import float_nodes
from edgec.passes.graph_edit import constant, module_of
from edgec.passes.node_values import Value, values_of
from edgec.passes.replace_in_place import written

if TYPE_CHECKING:
    from torch import fx

    from edgec.backends.torch_quant.model import TorchModel

CLAMP = f"{FLOAT}: torch's int8 clamp takes two numbers only, and scrambles channels-last tensors"
PRELU = f"{FLOAT}: torch's quantizer cannot convert PReLU"
UNBATCHED = f"{FLOAT}: torch's int8 kernel of it takes no input without a batch axis"
WEIGHTS = f"{FLOAT}: its weights are computed when the model runs"
NORM = f"{FLOAT}: torch's quantizer cannot convert this norm without weights of its own"
DIVISION = f"{FLOAT}: torch has no int8 kernel of a division that rounds"
FIXED_OUTPUT = f"{FLOAT}: it makes an output, and torch's int8 kernel of it has a fixed step (of 1/256 or 1/128)"
LOGARITHM = f"{FLOAT}: a logarithm takes it, and torch's int8 kernel of it has a fixed step (of 1/256 or 1/128)"
IN_PLACE = f"{FLOAT}: its tensor is changed in place, where quantization would work on copies"
_PADDINGS = ("zeros", "reflect")
"""Padding modes of convolutions that torch's int8 kernels have."""
_AXES = {"InstanceNorm1d": 3, "InstanceNorm2d": 4, "InstanceNorm3d": 5, "BatchNorm2d": 4, "BatchNorm3d": 5}
"""Axes of what norms take."""


@dataclass(frozen=True)
class Call:
    """A node that the quantizer would touch, with its module (if it calls one) and the values of all nodes."""

    node: fx.Node
    module: Any
    graph: fx.GraphModule
    values: dict[fx.Node, Value]
    engine: str

    @property
    def rank(self) -> int:
        """Number of axes of its first input."""
        inputs = self.node.all_input_nodes
        return len(self.values[inputs[0]].shape) if inputs and inputs[0] in self.values else 0

    def argument(self, name: str, place: int, default: Any = None) -> Any:
        """An argument that may be given by place or by name.

        Args:
            name: of the argument.
            place: its index among the arguments.
            default: where it is not given.
        """
        return self.node.args[place] if len(self.node.args) > place else self.node.kwargs.get(name, default)


Rule = Callable[[Call], str]
"""The reason why a call stays in float; empty: none."""


def unsupported_nodes(model: TorchModel) -> dict[str, str]:
    """Nodes of a float graph that must stay out of the quantizer's sight; name of the node -> reason."""
    values = values_of(model.graph, model.example)
    in_place = written(model.graph)
    regions = float_nodes(model.graph, values)
    unsupported = {}
    for node in quantizable_nodes(model.graph):
        if values[node].kind == "plain":
            continue  # arithmetic of sizes, which torch's quantizer distinguishes from that of tensors
        call = Call(node, module_of(node, model.graph), model.graph, values, model.engine)
        kind = type(call.module) if call.module is not None else node.target
        rule: Rule = _rules().get(kind, _no_reason)
        if node in in_place:
            unsupported[node.name] = IN_PLACE
        elif reason := _by_dtype(call) or _fixed_output(call) or rule(call) or regions.get(node.name, ""):
            unsupported[node.name] = reason
    return unsupported


def quantizable_nodes(graph: fx.GraphModule) -> list[fx.Node]:
    """Nodes that torch's quantizer may give a scale, by its own table of ops."""
    quantizable = []
    for node in graph.graph.nodes:
        module = module_of(node, graph)
        kind = type(module) if module is not None else node.target
        if node.op.startswith("call_") and kind in _quantizable():
            quantizable.append(node)
    return quantizable


@cache
def _quantizable() -> frozenset[Any]:
    """Functions, names of methods, and classes of modules that begin or make up a pattern of static int8."""
    import torch.ao.quantization.backend_config.utils  # the table needs it, and does not import it
    from torch.ao.quantization.backend_config import get_native_backend_config

    kinds: set[Any] = set()
    for config in get_native_backend_config().configs:
        if all(item.is_dynamic or item.input_dtype != torch.quint8 for item in config.dtype_configs):
            continue  # recurrent layers and embeddings
        pattern: Any = config.pattern
        while isinstance(pattern, tuple):
            kinds.update(item for item in pattern if not isinstance(item, tuple))
            pattern = next((item for item in pattern if isinstance(item, tuple)), None)
        kinds.add(pattern)
    # questions about a tensor, whose answers are numbers
    return frozenset(kinds - {None, "size", "shape"})


def _no_reason(call: Call) -> str:
    return ""


def _by_dtype(call: Call) -> str:
    """Only float32 tensors can be observed: torch's own quantizer would observe any."""
    for value in (call.values[item] for item in (*call.node.all_input_nodes, call.node)):
        if value.kind == "tensors":
            return f"{FLOAT}: torch quantizes tensors, and no tuples of them"
        if value.kind == "tensor" and value.dtype != "float32":
            return f"{FLOAT}: torch quantizes float32 tensors only, and one of {value.dtype} is read or made here"
    return ""


def _fixed_output(call: Call) -> str:
    """Sigmoid and the like whose result is only moved on its way to an output or a logarithm."""
    if not _is_fixed(call):
        return ""
    pending, seen = [call.node], set()
    while pending:
        node = pending.pop()
        for user in node.users:
            if user.op == "output":
                return FIXED_OUTPUT
            if _name(user) in ("log", "log2", "log10"):
                return LOGARITHM
            if user not in seen and user.all_input_nodes[:1] == [node] and _moves(user, call.graph):
                seen.add(user)
                pending.append(user)
    return ""


def _is_fixed(call: Call) -> bool:
    import torch
    from torch import nn

    functions: Any = nn.functional
    return isinstance(call.module, (nn.Sigmoid, nn.Tanh, nn.Hardsigmoid, nn.Softmax)) or call.node.target in (
        *(torch.sigmoid, torch.tanh, functions.sigmoid, functions.tanh, functions.hardsigmoid, functions.softmax),
        *("sigmoid", "tanh", "sigmoid_", "tanh_", "hardsigmoid", "hardsigmoid_", "softmax"),
    )


def _moves(node: fx.Node, graph: fx.GraphModule) -> bool:
    from torch import nn

    moving = {"reshape", "view", "flatten", "transpose", "permute", "squeeze", "unsqueeze", "contiguous", "getitem"}
    return _name(node) in moving or isinstance(module_of(node, graph), (nn.Flatten, nn.Unflatten, nn.Identity))


def _name(node: fx.Node) -> str:
    """Of the function or method that a node calls."""
    return str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")


def _convolution(call: Call) -> str:
    if call.module.padding_mode not in _PADDINGS:
        return f'{FLOAT}: torch has no int8 convolution with padding mode "{call.module.padding_mode}"'
    if call.rank != call.module.weight.dim():
        return UNBATCHED
    spatial = len(call.module.kernel_size)
    if spatial == 3 and call.engine == "qnnpack":
        return f"{FLOAT}: qnnpack has no kernel of it"
    return ""


def _linear(call: Call) -> str:
    return UNBATCHED if call.rank < 2 else ""


def _product_call(call: Call) -> str:
    """Functions that take their weights as arguments, which torch packs once and for all."""
    given = [call.argument(name, place) for place, name in ((1, "weight"), (2, "bias"))]
    if not all(constant(item, call.graph)[0] for item in given):
        return WEIGHTS
    weight = constant(given[0], call.graph)[1]
    least = 2 if weight.dim() == 2 else weight.dim()
    return UNBATCHED if call.rank < least or (weight.dim() > 2 and call.rank > weight.dim()) else ""


def _interpolate(call: Call) -> str:
    mode = call.argument("mode", 3, "nearest")
    ranks = {"nearest": (4, 5), "nearest-exact": (4,), "bilinear": (4,)}
    if call.rank in ranks.get(mode, ()):
        return ""
    return f"{FLOAT}: torch has no int8 kernel of {mode} interpolation over {call.rank - 2} axes"


def _instance_norm(call: Call) -> str:
    return NORM if call.argument("weight", 3) is None or call.argument("bias", 4) is None else ""


def _norm_module(call: Call) -> str:
    return UNBATCHED if call.rank != _AXES[type(call.module).__name__] else ""


def _pool3d(call: Call) -> str:
    return f"{FLOAT}: qnnpack has no kernel of it" if call.engine == "qnnpack" else ""


@cache
def _rules() -> dict[Any, Rule]:
    import operator

    import torch
    from torch import nn

    functions: Any = nn.functional
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    of_functions = [functions.linear, functions.conv1d, functions.conv2d, functions.conv3d]
    of_functions += [functions.conv_transpose1d, functions.conv_transpose2d, functions.conv_transpose3d]
    clamps = (torch.clamp, "clamp", functions.hardtanh, functions.hardtanh_, functions.relu6)
    norms = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d)
    return {
        **dict.fromkeys(convolutions, _convolution),
        nn.Linear: _linear,
        **dict.fromkeys(of_functions, _product_call),
        **dict.fromkeys(clamps, lambda _: CLAMP),
        nn.PReLU: lambda _: PRELU,
        functions.interpolate: _interpolate,
        functions.instance_norm: _instance_norm,
        **dict.fromkeys(norms, _norm_module),
        operator.floordiv: lambda _: DIVISION,
        nn.MaxPool3d: _pool3d,
        functions.max_pool3d: _pool3d,
    }
