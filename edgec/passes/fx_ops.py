"""The ops of a torch graph, by ONNX's names where ONNX has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from edgec.model.graph_ops import GraphOp, OpGraph
from edgec.model.samples import sample_tensors
from edgec.model.spec import TensorSpec
from edgec.passes.graph_edit import module_of
from edgec.passes.node_values import Value, values_of

if TYPE_CHECKING:
    from torch import fx

_LOWERED = (
    {
        "Abs",
        "Add",
        "Clip",
        "Concat",
        "Cos",
        "Div",
        "Dropout",
        "Einsum",
        "Elu",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Gelu",
    }
    | {"HardSigmoid", "HardSwish", "Log", "MatMul", "Mish", "Mul", "Neg", "PRelu", "Pad", "Pow", "Relu", "Reshape"}
    | {"Sigmoid", "Sin", "Softmax", "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"}
    | {"Where"}
)
"""ONNX's ops whose name in lower case is that of the function or method."""
_NAMES = {op.lower(): op for op in _LOWERED} | {
    name: op
    for op, names in {
        "Add": "iadd",
        "Attention": "MultiheadAttention scaled_dot_product_attention",
        "AveragePool": "AvgPool1d AvgPool2d AvgPool3d avg_pool1d avg_pool2d avg_pool3d",
        "BatchNormalization": "BatchNorm1d BatchNorm2d BatchNorm3d batch_norm",
        "Cast": "to float type_as",
        "Celu": "CELU",
        "Clip": "ReLU6 Hardtanh relu6 hardtanh clamp",
        "Concat": "cat stack",
        "Conv": "Conv1d Conv2d Conv3d conv1d conv2d conv3d",
        "ConvTranspose": "ConvTranspose1d ConvTranspose2d ConvTranspose3d "
        "conv_transpose1d conv_transpose2d conv_transpose3d",
        "DepthToSpace": "pixel_shuffle",
        "Div": "truediv",
        "Dropout": "Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout",
        "Elu": "ELU",
        "Expand": "expand_as",
        "Gather": "Embedding embedding index_select",
        "GatherElements": "gather",
        "Gelu": "GELU",
        "Gemm": "Linear linear addmm",
        "GlobalAveragePool": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        "GroupNormalization": "GroupNorm group_norm",
        "HardSigmoid": "Hardsigmoid",
        "HardSwish": "Hardswish",
        "Identity": "contiguous clone detach",
        "InstanceNormalization": "InstanceNorm1d InstanceNorm2d InstanceNorm3d instance_norm",
        "LayerNormalization": "LayerNorm layer_norm",
        "LeakyRelu": "LeakyReLU leaky_relu",
        "LogSoftmax": "log_softmax",
        "LpNormalization": "normalize",
        "MatMul": "bmm mm baddbmm",
        "Max": "maximum",
        "MaxPool": "MaxPool1d MaxPool2d MaxPool3d max_pool1d max_pool2d max_pool3d",
        "Min": "minimum",
        "Mul": "imul",
        "PRelu": "PReLU",
        "Pad": "ZeroPad2d",
        "RMSNormalization": "RMSNorm",
        "ReduceL2": "norm",
        "ReduceMax": "amax",
        "ReduceMean": "mean",
        "ReduceMin": "amin",
        "ReduceSum": "sum",
        "Relu": "ReLU",
        "Reshape": "view view_as",
        "Resize": "Upsample UpsamplingNearest2d UpsamplingBilinear2d interpolate",
        "Selu": "SELU",
        "Slice": "getitem",
        "Split": "chunk unbind",
        "Sqrt": "rsqrt",
        "Sub": "isub",
        "Swish": "SiLU silu",
        "Tile": "repeat",
        "Transpose": "permute t",
        "Where": "masked_fill",
    }.items()
    for name in names.split()
}
"""Class of a module, or name of a function or method -> ONNX's op."""
_SPATIAL = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "Resize"})


def ops_of_graph(graph: fx.GraphModule, inputs: Sequence[TensorSpec]) -> OpGraph:
    """The ops of a torch graph.

    Args:
        graph: of a FloatModel.
        inputs: its input specs; a made-up sample of them is run through it.
    """
    values = values_of(graph, sample_tensors(inputs, seed=0))
    ops = []
    for node in graph.graph.nodes:
        value = values[node]
        if not node.op.startswith("call_") or value.kind == "plain":
            continue
        module = module_of(node, graph)
        op = _op(node, module)
        ops.append(
            GraphOp(
                name=str(node.target) if module is not None else node.name,
                op=op,
                inputs=tuple(item.name for item in node.all_input_nodes),
                outputs=(node.name,),
                is_float=value.dtype.startswith("float"),
                axes=_axes(node, module, values) if op in _SPATIAL else 0,
                mode=_mode(node, module) if op == "Resize" else "",
            )
        )
    elements = sum(item.numel() for item in (*graph.parameters(), *graph.buffers()) if item.is_floating_point())
    sizes = {
        node.name: prod(value.shape) * (8 if value.dtype in ("int64", "float64") else 4)
        for node, value in values.items()
        if value.kind == "tensor" and node.op != "get_attr"
    }
    return OpGraph(tuple(ops), elements, sizes)


def _op(node: fx.Node, module: Any) -> str:
    if module is not None:
        kind = type(module).__name__
        return _NAMES.get(kind, kind)
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    plain = name.strip("_")
    return _NAMES.get(plain, plain)


def _axes(node: fx.Node, module: Any, values: Mapping[fx.Node, Value]) -> int:
    weight = getattr(module, "weight", None)
    if weight is not None:
        return int(weight.dim()) - 2
    shape = values[node].shape
    return max(len(shape) - 2, 0)


def _mode(node: fx.Node, module: Any) -> str:
    mode = str(getattr(module, "mode", "") or node.kwargs.get("mode") or "nearest")
    return {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
