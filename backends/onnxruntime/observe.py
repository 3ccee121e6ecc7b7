"""What calibration looks at: which tensors of a graph, and the ops that bring out as little of them as will do."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.onnxruntime.capability import STATIC_OPS, VALUE_PRESERVING
from edgec.backends.onnxruntime.graph import OnnxModel, constants, consumers, copy, producers
from edgec.model.spec import Array

if TYPE_CHECKING:
    import onnx

SAMPLE_VALUES = 4096
"""About how many values of a tensor one sample adds to its histogram; its extremes are always exact."""


@dataclass(frozen=True)
class Observed:
    """One tensor under observation.

    Attributes:
        tensor: its name in the graph.
        extremes: graph outputs that hold its smallest and largest values, scalars or one a channel.
        values: graph output that holds (a part of) its values; "" without histograms.
        rectified: it is never negative, so its range begins at 0 whatever is seen.
    """

    tensor: str
    extremes: tuple[str, ...]
    values: str
    rectified: bool


def aliases(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the tensor whose values it has in another order or shape, or clamped.

    The output of an op that only a ReLU or a Clip reads is never quantized by itself: saturation does the clamping.
    """
    sources: dict[str, str] = {}
    readers, outputs = consumers(proto), {item.name for item in proto.graph.output}
    known, made_by = constants(proto), producers(proto)
    for node in proto.graph.node:
        if node.op_type in VALUE_PRESERVING and node.input[0] not in known:
            sources[node.output[0]] = node.input[0]
    for node in proto.graph.node:
        source = node.input[0] if node.input else ""
        if node.op_type in ("Relu", "Clip") and source not in outputs and len(readers.get(source, ())) == 1:
            made = made_by.get(source)
            clamps = node.op_type == "Relu" or not excludes_zero(node, known)
            if clamps and made is not None and made.op_type not in VALUE_PRESERVING:
                sources[source] = node.output[0]
    return {tensor: _end(tensor, sources) for tensor in sources}


def excludes_zero(clip: onnx.NodeProto, known: Mapping[str, Array]) -> bool:
    """Whether 0 lies outside the clamp, or its bounds are computed. Quantized ranges always hold 0."""
    low, high = [*clip.input, "", ""][1:3]
    if any(bound and bound not in known for bound in (low, high)):
        return True
    return bool((low and known[low] > 0) or (high and known[high] < 0))


def _end(tensor: str, sources: Mapping[str, str]) -> str:
    while tensor in sources:
        tensor = sources[tensor]
    return tensor


def observed_tensors(proto: onnx.ModelProto, never: Collection[str] = ()) -> tuple[str, ...]:
    """Float tensors that static quantization of any choice of layers may need a range of, in graph order.

    Args:
        proto: the float graph.
        never: names of nodes that no choice makes static.
    """
    from onnx import TensorProto

    graph = proto.graph
    floats = {
        item.name
        for item in (*graph.value_info, *graph.input, *graph.output)
        if item.type.tensor_type.elem_type == TensorProto.FLOAT
    } - {item.name for item in graph.initializer}
    same = aliases(proto)
    touched = {
        same.get(tensor, tensor)
        for node in graph.node
        if node.op_type in STATIC_OPS and node.name not in never
        for tensor in (*node.input, *node.output)
    }
    named = [item.name for item in graph.input] + [tensor for node in graph.node for tensor in node.output]
    return tuple(tensor for tensor in dict.fromkeys(named) if tensor in touched & floats)


def with_observations(
    model: OnnxModel, *, histogram: bool, never: Collection[str] = ()
) -> tuple[onnx.ModelProto, tuple[Observed, ...]]:
    """A graph whose only outputs are the model's own and what calibration needs of each tensor.

    ONNX Runtime's reductions and pools drop NaN unless it comes first; the model's outputs show it.

    Convolutions of the runtime keep their channels in blocks, and to unfold a whole tensor costs as much as the
    convolution. So rectified feature maps give their maxima by a global pool, and their samples by a strided one,
    which both read the blocks as they are; other tensors are reduced to a minimum and a maximum.

    Args:
        model: the float graph.
        histogram: whether histograms are collected.
        never: tensors that stay in float.
    """
    from onnx import TensorProto, helper

    proto = copy(model)
    graph = proto.graph
    shapes = _shapes(proto)
    made_by, known = producers(model.proto), constants(model.proto)
    observed = []
    tensors = observed_tensors(model.proto, never)
    own = {item.name for item in graph.output}

    def add(op: str, tensor: str, name: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(op, [tensor], [name], name=name, **attributes))
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return name

    def whole(tensor: str) -> str:
        if tensor not in own:
            graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
        return tensor

    for index, tensor in enumerate(tensors):
        shape = shapes.get(tensor, ())
        node = made_by.get(tensor)
        rectified = node is not None and _is_rectified(node, known)
        mapped = len(shape) == 4 and _is_feature_map(node, made_by)
        size = math.prod(shape)
        stride = min(math.isqrt(max(size // SAMPLE_VALUES, 1)), *shape[2:]) if mapped else 1
        values = ""
        if histogram and stride > 1:
            values = add("MaxPool", tensor, f"edgec_part_{index}", kernel_shape=[1, 1], strides=[stride, stride])
        elif histogram:
            values = whole(tensor)
        extremes: tuple[str, ...] = ()
        if histogram and stride == 1:
            pass  # the values are all there
        else:
            lowest = () if rectified else (add("ReduceMin", tensor, f"edgec_min_{index}", keepdims=0),)
            extremes = (
                *lowest,
                add("GlobalMaxPool", tensor, f"edgec_max_{index}")
                if mapped
                else add("ReduceMax", tensor, f"edgec_max_{index}", keepdims=0),
            )
        observed.append(Observed(tensor, extremes, values, rectified))
    return proto, tuple(observed)


def part(values: Array) -> Array:
    """About `SAMPLE_VALUES` of the values, evenly spaced, from all positions along the last axis."""
    flat = values.reshape(-1)
    step = flat.size // SAMPLE_VALUES
    if step < 2:
        return flat
    while math.gcd(step, values.shape[-1]) > 1:
        step += 1
    return flat[::step]


def _shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    values = (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    return {item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim) for item in values}


def _is_rectified(node: onnx.NodeProto, known: Mapping[str, Array]) -> bool:
    if node.op_type == "Relu":
        return True
    low = [*node.input, ""][1]
    return node.op_type == "Clip" and low in known and bool(np.all(known[low] >= 0))


def _is_feature_map(node: onnx.NodeProto | None, made_by: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether a convolution made it, so that its last two axes are places and not features."""
    while node is not None and node.op_type in ("Relu", "Clip", "LeakyRelu", "Add"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Conv"
