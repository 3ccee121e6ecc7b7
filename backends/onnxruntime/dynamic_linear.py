"""Linear layers whose inputs are quantized as the model runs, in a graph whose other layers are static or in float."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgec.backends.onnxruntime.capability import DYNAMIC_LIMIT, LARGEST_PAIR, DynamicCodes, Granularity
from edgec.backends.onnxruntime.graph import constants, consumers
from edgec.backends.onnxruntime.layers import PlacedLayer, transposes
from edgec.model.spec import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class DynamicLinear:
    """How to make layers dynamic.

    Attributes:
        nodes: names of their nodes.
        weights: one scale for each output, or one for all.
        codes: how weights are stored.
    """

    nodes: frozenset[str]
    weights: Granularity
    codes: DynamicCodes


def dynamic_layers(proto: onnx.ModelProto, layers: Iterable[PlacedLayer]) -> tuple[PlacedLayer, ...]:
    """Those of `layers` of a float graph that ONNX Runtime multiplies with inputs quantized as the model runs."""
    nodes, known = {node.name: node for node in proto.graph.node}, constants(proto)

    def fits(layer: PlacedLayer) -> bool:
        node = nodes[layer.node]
        if layer.op != "linear" or known[layer.weight].ndim != 2 or known[layer.weight].dtype != np.float32:
            return False
        plain = all(item.name == "transB" or (item.name == "transA" and not item.i) for item in node.attribute)
        return node.op_type in ("Gemm", "MatMul") and plain

    return tuple(layer for layer in layers if fits(layer))


def make_dynamic(proto: onnx.ModelProto, how: DynamicLinear) -> None:
    """Rewrite Gemm and MatMul with constant weights, in place.

    ``y = x W + b`` becomes DynamicQuantizeLinear (one range for each tensor and run), MatMulInteger, a product with the
    scales and an Add: the form that ONNX Runtime fuses to one op. Layers that read one tensor quantize it once. The
    integer product has the node's name, its result the old tensor's.
    """
    from onnx import helper

    known = constants(proto)
    nodes: list[onnx.NodeProto] = []
    stored: dict[tuple[str, bool], str] = {}
    inputs: set[str] = set()
    for node in proto.graph.node:
        if node.name not in how.nodes:
            nodes.append(node)
            continue
        source, weight = node.input[0], node.input[1]
        if source not in inputs:
            inputs.add(source)
            made = [f"{source}_{part}" for part in ("codes", "step", "zero")]
            nodes.append(helper.make_node("DynamicQuantizeLinear", [source], made, name=f"{source}_to_codes"))
        key = (weight, transposes(node))
        if key not in stored:
            stored[key] = _store(proto, weight, known[weight].T if key[1] else known[weight], how, number=len(stored))
        nodes.extend(_product(node, stored[key]))
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    _drop_unread(proto, {weight for weight, _ in stored})


def _product(node: onnx.NodeProto, weight: str) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    source, made, name = node.input[0], node.output[0], node.name
    bias = node.input[2] if len(node.input) > 2 else ""
    total, product = f"{made}_codes", f"{made}_unbiased" if bias else made
    operands = [f"{source}_codes", f"{weight}_quantized", f"{source}_zero", f"{weight}_zero_point"]
    nodes = [
        helper.make_node("MatMulInteger", operands, [total], name=name),
        helper.make_node("Cast", [total], [f"{total}_float"], name=f"{name}_cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{source}_step", f"{weight}_scale"], [f"{made}_step"], name=f"{name}_step"),
        helper.make_node("Mul", [f"{total}_float", f"{made}_step"], [product], name=f"{name}_product"),
    ]
    if bias:
        nodes.append(helper.make_node("Add", [product, bias], [made], name=f"{name}_bias"))
    return nodes


def _store(proto: onnx.ModelProto, name: str, weight: Array, how: DynamicLinear, number: int) -> str:
    """Add codes, scales and zero-points of a weight of (inputs, outputs); returns what their names begin with."""
    from onnx import numpy_helper

    taken = {item.name for item in proto.graph.initializer}
    stem = name if f"{name}_quantized" not in taken else f"{name}_dynamic_{number}"
    scale = _scales(weight, how)
    limit = DYNAMIC_LIMIT[how.codes]
    codes = np.clip(np.rint(weight / scale), -limit, limit).astype(np.int8)
    zeros = np.zeros(scale.shape, np.int8)
    for part, value in (("quantized", codes), ("scale", scale), ("zero_point", zeros)):
        proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), f"{stem}_{part}"))
    return stem


def _scales(weight: Array, how: DynamicLinear) -> Array:
    """One for each output, or one for all.

    Where kernels add pairs of products in 16 bits (``pair``), the largest two weights of one sign of an output fit them
    together: whichever the kernel pairs, none overflow.
    """
    limit = DYNAMIC_LIMIT[how.codes]
    largest = np.abs(weight).max(axis=0) / np.float32(limit)
    if how.codes == "pair":
        count = min(2, len(weight))
        ends = [np.sort(np.maximum(sign * weight, 0), axis=0)[-count:].sum(axis=0) for sign in (1, -1)]
        # rounding adds at most half a step to each of the two
        largest = np.maximum(largest, np.maximum(*ends) / np.float32(LARGEST_PAIR - 1))
    if how.weights == "per-tensor":
        largest = largest.max()
    return np.where(largest > 0, largest, np.float32(1)).astype(np.float32)


def _drop_unread(proto: onnx.ModelProto, names: Collection[str]) -> None:
    read = {*consumers(proto)} | {item.name for item in proto.graph.output}
    for item in [item for item in proto.graph.initializer if item.name in names and item.name not in read]:
        proto.graph.initializer.remove(item)
