"""The calls of a graph that stay in float: its front end, and what comes after its last layers with weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgec.backends.float_regions import Op, Role, float_regions, role_of
from edgec.passes.graph_edit import module_of
from edgec.passes.node_values import Value

if TYPE_CHECKING:
    from torch import fx

_PRODUCTS = (
    *("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("matmul", "bmm", "baddbmm", "addmm", "mm", "einsum", "embedding", "scaled_dot_product_attention"),
    *("lstm", "gru", "rnn_tanh", "rnn_relu"),
)
_MOVES = (
    *("contiguous", "expand_dims", "flatten", "getitem", "movedim", "permute", "reshape", "squeeze", "transpose"),
    *("unflatten", "unsqueeze", "view", "identity", "dropout"),
)
_SAMPLING = (
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "interpolate", "upsample"),
    *("avgpool1d", "avgpool2d", "avgpool3d", "maxpool1d", "maxpool2d", "maxpool3d"),
    *("upsamplingbilinear2d", "upsamplingnearest2d"),
)
_ARITHMETIC = (
    *("add", "add_", "div", "div_", "truediv", "maximum", "minimum", "mul", "mul_", "neg", "sub", "sub_", "sum"),
    *("max", "min", "amax", "amin"),
)
_POWERS = ("abs", "pow", "square", "sqrt", "rfft", "fft", "stft", "norm", "view_as_real")
_ROLES: tuple[tuple[Role, tuple[str, ...]], ...] = (
    ("product", _PRODUCTS),
    ("activation", ("clamp", "hardtanh", "relu", "relu6", "relu_")),
    ("softmax", ("softmax",)),
    ("move", _MOVES),
    ("join", ("cat", "concat", "concatenate")),
    ("sampling", _SAMPLING),
    ("arithmetic", _ARITHMETIC),
    ("power", _POWERS),
    ("logarithm", ("log", "log10", "log1p", "log2")),
)


def float_nodes(graph: fx.GraphModule, values: Mapping[fx.Node, Value]) -> dict[str, str]:
    """Names of the calls of the front end and of the post-processing, with the reason.

    Args:
        graph: a float graph.
        values: of its nodes.
    """

    def is_activation(node: fx.Node) -> bool:
        return node.op != "get_attr" and values[node].kind != "plain"

    calls = [node for node in graph.graph.nodes if node.op.startswith("call_") and is_activation(node)]
    ends = [node for node in graph.graph.nodes if node.op == "output"]
    ops = [
        Op(
            node.name,
            _role(node, graph),
            tuple(item.name for item in node.all_input_nodes if is_activation(item)),
            (node.name,),
        )
        for node in calls
    ]
    return float_regions(ops, {item.name for end in ends for item in end.all_input_nodes})


def _role(node: fx.Node, graph: fx.GraphModule) -> Role:
    module = module_of(node, graph)
    if module is None:
        name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
        squared = name == "mul" and len(node.args) == 2 and node.args[0] is node.args[1]
        return "power" if squared else role_of(name, _ROLES)
    weights = [item for item in module.parameters() if item.dim() > 1]
    if weights:
        return "mean" if all(item.shape[0] == 1 for item in weights) else "product"
    return role_of(type(module).__name__.lower(), _ROLES)
