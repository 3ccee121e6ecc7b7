"""Weight-only quantization: 4- or 8-bit weights, tensors between ops in float."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.onnxruntime.block_codes import Bits, block_codes, channel_codes, nibbles
from edgec.backends.onnxruntime.graph import (
    MICROSOFT,
    OnnxModel,
    consumers,
    copy,
    import_microsoft,
    name_nodes,
    weights_in_bodies,
)
from edgec.backends.onnxruntime.untie import separate_lstm_weights, untie_weights
from edgec.errors import UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage

if TYPE_CHECKING:
    import onnx

    from edgec.model.spec import Array

MIN_ELEMENTS = 256
"""Smaller weights stay float32: scales, names and another node would eat what the codes save."""
ACCURACY_LEVEL: dict[Bits, int] = {4: 1, 8: 4}
"""What MatMulNBits computes in: 1 is float32. Its 8-bit kernel for that takes 10-20 times as long as a float product
(measured, ONNX Runtime 1.23), so 8-bit weights run at 4: activations rounded to int8 block by block as it runs."""
DEQUANTIZED = {"Conv": {1: 0}, "ConvTranspose": {1: 1}, "GRU": {1: 1, 2: 1}, "LSTM": {1: 1, 2: 1}, "RNN": {1: 1, 2: 1}}
"""Op -> its weight inputs, and the axis of each that has scales. These are dequantized at each run."""
_PRODUCTS = ("Gemm", "MatMul")


@dataclass(frozen=True)
class QuantizeWeights(Pass[OnnxModel]):
    """Matrix products become MatMulNBits; convolutions and recurrent cells read dequantized per-channel codes.

    Arithmetic is float32, but for 8-bit MatMulNBits, whose kernel rounds activations to int8 (`ACCURACY_LEVEL`).
    """

    bits: Bits
    block_size: int = 32

    name: ClassVar[str] = "quantize-weights"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        from onnx import numpy_helper

        proto = copy(model)
        untie_weights(proto)
        separate_lstm_weights(proto)
        weights = {
            item.name: numpy_helper.to_array(item) for item in proto.graph.initializer if item.data_type == item.FLOAT
        }
        nodes: list[onnx.NodeProto] = []
        coverage: list[Coverage] = []
        count = 0
        written: set[str] = set()
        for node in proto.graph.node:
            constant = [tensor for tensor in node.input if tensor in weights and weights[tensor].ndim >= 2]
            done = [tensor for tensor in constant if weights[tensor].size >= MIN_ELEMENTS]
            if node.op_type in _PRODUCTS and done and (reason := _why_not(node, weights)) is None:
                nodes += self._product(node, weights, proto, written)
                count += 1
                continue
            if node.op_type in DEQUANTIZED and done:
                nodes += self._dequantized(node, weights, proto, written)
                count += 1
            elif constant and node.op_type in (*_PRODUCTS, *DEQUANTIZED, "Gather"):
                reason = _why_not(node, weights) if done else f"its weight has under {MIN_ELEMENTS} elements"
                coverage.append(Coverage(subject=node.name, state="float32", reason=reason or ""))
            nodes.append(node)
        if not count:
            raise UnsupportedError(
                f"nothing of the model has weights worth storing in {self.bits} bits",
                where=f"pass {self.name}",
                hint=f"it takes constant weights of {', '.join((*_PRODUCTS, *DEQUANTIZED))} "
                f"from {MIN_ELEMENTS} elements on",
            )
        bodies = weights_in_bodies(proto)
        coverage += [Coverage(subject=name, state="float32", reason=reason) for name, reason in bodies.items()]
        _replace_nodes(proto, nodes)
        return PassResult(
            replace(model, proto=proto, kept_float={item.subject: item.reason for item in coverage}),
            f"weights of {count} ops to {self.bits} bits, blocks of {self.block_size} in matrix products",
            coverage,
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None if weight_only_count(model.proto) else "no weight is quantized"

    def _product(
        self, node: onnx.NodeProto, weights: dict[str, Array], proto: onnx.ModelProto, written: set[str]
    ) -> list[onnx.NodeProto]:
        from onnx import helper, numpy_helper

        name = node.input[1]
        transposed = any(item.name == "transB" and item.i for item in node.attribute)
        weight = weights[name] if transposed else weights[name].T
        codes = block_codes(weight, self.block_size, self.bits)
        tensors = {f"{name}_Q{self.bits}": codes.packed, f"{name}_scales": codes.scales.reshape(-1)}
        if codes.zero_points is not None:
            tensors[f"{name}_zero_points"] = codes.zero_points.reshape(-1)
        if name not in written:
            written.add(name)
            proto.graph.initializer.extend(numpy_helper.from_array(array, part) for part, array in tensors.items())
        bias = list(node.input[2:3])
        made = node.output[0] if not bias else f"{node.output[0]}_product"
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], *tensors],
            [made],
            name=node.name,
            domain=MICROSOFT,
            K=weight.shape[1],
            N=weight.shape[0],
            bits=self.bits,
            block_size=self.block_size,
            accuracy_level=ACCURACY_LEVEL[self.bits],
        )
        if not bias:
            return [product]
        return [product, helper.make_node("Add", [made, *bias], node.output, name=f"{node.name}_bias")]

    def _dequantized(
        self, node: onnx.NodeProto, weights: dict[str, Array], proto: onnx.ModelProto, written: set[str]
    ) -> list[onnx.NodeProto]:
        from onnx import TensorProto, helper, numpy_helper

        made = []
        for position, axis in DEQUANTIZED[node.op_type].items():
            name = node.input[position] if position < len(node.input) else ""
            if name not in weights or weights[name].size < MIN_ELEMENTS:
                continue
            stored = f"{name}_quantized"
            if name not in written:
                written.add(name)
                codes, scales = channel_codes(weights[name], axis, self.bits)
                proto.graph.initializer.append(
                    helper.make_tensor(stored, TensorProto.INT4, codes.shape, nibbles(codes), raw=True)
                    if self.bits == 4
                    else numpy_helper.from_array(codes, stored)
                )
                proto.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
                made.append(
                    helper.make_node(
                        "DequantizeLinear",
                        [stored, f"{name}_scale"],
                        [f"{name}_dequantized"],
                        name=f"{name}_DequantizeLinear",
                        domain=MICROSOFT,  # the standard op takes 4 bits from opset 21 on, this one always
                        axis=axis,
                    )
                )
            node.input[position] = f"{name}_dequantized"
        return made


def weight_only_count(proto: onnx.ModelProto) -> int:
    """How many ops of a graph read quantized weights and float activations."""
    behind = {node.output[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    return sum(
        node.op_type == "MatMulNBits" or (node.op_type in DEQUANTIZED and bool(behind & {*node.input}))
        for node in proto.graph.node
    )


def _why_not(node: onnx.NodeProto, weights: dict[str, Array]) -> str | None:
    """Why a product cannot be a MatMulNBits; None when it can."""
    if node.op_type == "Gather":
        return "no kernel looks up rows of quantized weights without dequantizing the whole table"
    attributes = {item.name: item for item in node.attribute}
    plain = all(name not in attributes or attributes[name].f == 1 for name in ("alpha", "beta"))
    transposed = "transA" in attributes and attributes["transA"].i
    if node.input[1] not in weights or weights[node.input[1]].ndim != 2 or not plain or transposed:
        return "MatMulNBits takes a constant matrix on the right, without alpha, beta or a transposed left side"
    return None


def _replace_nodes(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    read = {*consumers(proto)} | {item.name for item in proto.graph.output}
    for item in [item for item in proto.graph.initializer if item.name not in read]:
        proto.graph.initializer.remove(item)
    import_microsoft(proto)
    if proto.ir_version < 10:  # the first with 4-bit tensors
        proto.ir_version = 10
    name_nodes(proto)
