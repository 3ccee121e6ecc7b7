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

_MODULES = {
    name: op
    for op, names in {
        "Attention": "MultiheadAttention",
        "AveragePool": "AvgPool1d AvgPool2d AvgPool3d",
        "BatchNormalization": "BatchNorm1d BatchNorm2d BatchNorm3d",
        "Celu": "CELU",
        "Clip": "ReLU6 Hardtanh",
        "Conv": "Conv1d Conv2d Conv3d",
        "ConvTranspose": "ConvTranspose1d ConvTranspose2d ConvTranspose3d",
        "Elu": "ELU",
        "Gather": "Embedding",
        "Dropout": "Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout",
        "Gelu": "GELU",
        "Gemm": "Linear",
        "GlobalAveragePool": "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d",
        "GroupNormalization": "GroupNorm",
        "HardSigmoid": "Hardsigmoid",
        "HardSwish": "Hardswish",
        "InstanceNormalization": "InstanceNorm1d InstanceNorm2d InstanceNorm3d",
        "LayerNormalization": "LayerNorm",
        "LeakyRelu": "LeakyReLU",
        "MaxPool": "MaxPool1d MaxPool2d MaxPool3d",
        "PRelu": "PReLU",
        "Pad": "ZeroPad2d",
        "RMSNormalization": "RMSNorm",
        "Relu": "ReLU",
        "Resize": "Upsample UpsamplingNearest2d UpsamplingBilinear2d",
        "Selu": "SELU",
        "Swish": "SiLU",
    }.items()
    for name in names.split()
}
"""Class of a module -> ONNX's op, where it has another name."""
_FUNCTIONS = {
    name: op
    for op, names in {
        "Abs": "abs",
        "Add": "add iadd",
        "Attention": "scaled_dot_product_attention",
        "AveragePool": "avg_pool1d avg_pool2d avg_pool3d",
        "BatchNormalization": "batch_norm",
        "Cast": "to float type_as",
        "Clip": "relu6 hardtanh clamp clip",
        "Concat": "cat concat stack",
        "Conv": "conv1d conv2d conv3d",
        "ConvTranspose": "conv_transpose1d conv_transpose2d conv_transpose3d",
        "Cos": "cos",
        "DepthToSpace": "pixel_shuffle",
        "Div": "truediv div",
        "Einsum": "einsum",
        "Elu": "elu",
        "Erf": "erf",
        "Exp": "exp",
        "Expand": "expand expand_as",
        "Flatten": "flatten",
        "Gather": "embedding index_select",
        "GatherElements": "gather",
        "Gelu": "gelu",
        "Gemm": "linear addmm",
        "GlobalAveragePool": "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d",
        "GroupNormalization": "group_norm",
        "HardSigmoid": "hardsigmoid",
        "HardSwish": "hardswish",
        "Dropout": "dropout",
        "Identity": "contiguous clone detach",
        "InstanceNormalization": "instance_norm",
        "LayerNormalization": "layer_norm",
        "LeakyRelu": "leaky_relu",
        "Log": "log",
        "LogSoftmax": "log_softmax",
        "LpNormalization": "normalize",
        "MatMul": "matmul bmm mm baddbmm",
        "Max": "maximum",
        "MaxPool": "max_pool1d max_pool2d max_pool3d",
        "Min": "minimum",
        "Mish": "mish",
        "Mul": "mul imul",
        "Neg": "neg",
        "PRelu": "prelu",
        "Pad": "pad",
        "Pow": "pow",
        "ReduceL2": "norm",
        "ReduceMax": "amax",
        "ReduceMean": "mean",
        "ReduceMin": "amin",
        "ReduceSum": "sum",
        "Relu": "relu",
        "Reshape": "reshape view view_as",
        "Resize": "interpolate",
        "Sigmoid": "sigmoid",
        "Sin": "sin",
        "Slice": "getitem",
        "Softmax": "softmax",
        "Softplus": "softplus",
        "Split": "chunk split unbind",
        "Sqrt": "sqrt rsqrt",
        "Squeeze": "squeeze",
        "Sub": "sub isub",
        "Swish": "silu",
        "Tanh": "tanh",
        "Tile": "repeat",
        "Transpose": "transpose permute t",
        "Unsqueeze": "unsqueeze",
        "Where": "where masked_fill",
    }.items()
    for name in names.split()
}
"""Name of a function or method -> ONNX's op."""
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
        return _MODULES.get(kind, kind)
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", str(node.target))
    plain = name.strip("_")
    return _FUNCTIONS.get(plain, plain)


def _axes(node: fx.Node, module: Any, values: Mapping[fx.Node, Value]) -> int:
    weight = getattr(module, "weight", None)
    if weight is not None:
        return int(weight.dim()) - 2
    shape = values[node].shape
    return max(len(shape) - 2, 0)


def _mode(node: fx.Node, module: Any) -> str:
    mode = str(getattr(module, "mode", "") or node.kwargs.get("mode") or "nearest")
    return {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
