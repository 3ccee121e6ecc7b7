"""QDQ pairs by ONNX Runtime's quantizer, with edgec's ranges and with float layers that stay float."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backends.onnxruntime.calibrate import Range
from edgec.backends.onnxruntime.capability import LARGEST_CODE, STATIC_OPS, Granularity, WeightCodes
from edgec.backends.onnxruntime.dynamic_linear import DynamicLinear, make_dynamic
from edgec.backends.onnxruntime.graph import (
    MICROSOFT,
    constants,
    consumers,
    import_microsoft,
    name_nodes,
    producers,
)
from edgec.backends.onnxruntime.layers import channel_axis, find_layers
from edgec.backends.onnxruntime.lower import quiet_logging
from edgec.backends.onnxruntime.session import first_line
from edgec.backends.onnxruntime.untie import untie_weights
from edgec.errors import PassError
from edgec.model.spec import Array

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Placement:
    """What goes into the quantizer besides the graph.

    Attributes:
        spans: range of every tensor that may be quantized.
        excluded: node that stays in float -> why.
        weights: one scale a channel, or one for all.
        codes: how weights are stored.
        dynamic: what becomes dynamic; of nodes that are excluded too.
    """

    spans: Mapping[str, Range]
    excluded: Mapping[str, str]
    weights: Granularity
    codes: WeightCodes
    dynamic: DynamicLinear | None = None


def place_pairs(proto: onnx.ModelProto, how: Placement, refused: Collection[str] = ()) -> onnx.ModelProto:
    """A QDQ graph of the float graph `proto`, which stays as it is.

    Args:
        proto: the float graph.
        how: ranges, weights, and nodes that stay in float.
        refused: further nodes that stay in float.

    Raises:
        PassError: the quantizer fails.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    untied = onnx.ModelProto()
    untied.CopyFrom(proto)
    untie_weights(untied)
    extra: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
    extra["TensorQuantOverrides"] = _overrides(untied, how.weights, how.codes)
    try:
        with quiet_logging():
            quantizer = QDQQuantizer(
                untied,
                per_channel=how.weights == "per-channel",
                reduce_range=how.codes == "s7",
                weight_qType=QuantType.QUInt8 if how.codes == "u8" else QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, dict(how.spans)),
                nodes_to_quantize=[],
                nodes_to_exclude=sorted({*how.excluded, *refused}),
                op_types_to_quantize=list(STATIC_OPS),
                extra_options=extra,
            )
            quantizer.quantize_model()
    except Exception as exc:  # whatever it trips over: IndexError, AssertionError, ValueError of NumPy...
        raise PassError(f"ONNX Runtime's quantizer fails: {first_line(exc, Path())}", where="place QDQ pairs") from exc
    placed: onnx.ModelProto = quantizer.model.model
    name_nodes(placed)
    if how.dynamic is not None:
        make_dynamic(placed, replace(how.dynamic, nodes=how.dynamic.nodes - {*refused}))
    _keep_float(placed)
    _keep_transposed_float(placed)
    _part_from_pairs(placed, [node for node in placed.graph.node if node.name in refused])
    return placed


def _keep_float(proto: onnx.ModelProto) -> None:
    """Make layers with float weights between integer ones stay as they are, in place.

    ONNX Runtime's WeightBiasQuantization gives the float weight of a Conv or Gemm between a DequantizeLinear and a
    QuantizeLinear a scale of its own and runs the layer in int8, silently. It does not look at the fused forms of
    these ops, which its own optimizer makes of them and which compute the same without an activation.
    """
    from onnx import helper

    made_by = producers(proto)
    floats = {layer.node for layer in find_layers(proto)}
    for node in proto.graph.node:
        if node.name not in floats or node.op_type not in ("Conv", "Gemm") or node.input[0] not in made_by:
            continue
        if made_by[node.input[0]].op_type == "DequantizeLinear":
            if node.op_type == "Gemm":  # has no kernel without an activation; this one is the identity
                node.attribute.append(helper.make_attribute("activation", "LeakyRelu"))
                node.attribute.append(helper.make_attribute("activation_alpha", 1.0))
            node.op_type, node.domain = f"Fused{node.op_type}", MICROSOFT
            import_microsoft(proto)


def _keep_transposed_float(proto: onnx.ModelProto) -> None:
    """The same for ConvTranspose, which has no fused form (and no integer kernel either), in place."""
    known = constants(proto)
    transposed = [node for node in proto.graph.node if node.op_type == "ConvTranspose" and node.input[1] in known]
    _part_from_pairs(proto, transposed)


def _part_from_pairs(proto: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Make `nodes` between a DequantizeLinear and a QuantizeLinear stay in float, in place.

    An identity that the optimizer does not see through parts them from the QuantizeLinear: it makes one integer op of
    all three else, also where the node was left out of quantization and the pairs are its neighbours'.
    """
    from onnx import helper

    made_by, readers = producers(proto), consumers(proto)
    for node in list(nodes):
        if not any(tensor in made_by and made_by[tensor].op_type == "DequantizeLinear" for tensor in node.input):
            continue
        for position, made in enumerate(list(node.output)):
            if not any(reader.op_type == "QuantizeLinear" for reader in readers.get(made, ())):
                continue
            node.output[position] = f"{made}_unrounded"
            name = f"{node.name}_identity" + (f"_{position}" if position else "")
            identity = helper.make_node("LeakyRelu", [node.output[position]], [made], name=name, alpha=1.0)
            proto.graph.node.insert(list(proto.graph.node).index(node) + 1, identity)


def _overrides(proto: onnx.ModelProto, granularity: Granularity, codes: WeightCodes) -> dict[str, list[dict[str, Any]]]:
    """Scales of the weights that the quantizer would give wrong ones."""
    from onnxruntime.quantization import QuantType

    known = constants(proto)
    floats = {name for name, value in known.items() if value.dtype == np.float32 and value.size}
    products = [node for node in proto.graph.node if node.op_type == "MatMul"]
    overrides = _unsigned(proto, granularity) if codes == "u8" else {}
    for left, right in (node.input for node in products):
        if left in floats:  # quantized as the tensors between ops are: no kernel takes a scale for each column
            overrides[left] = [{"quant_type": QuantType.QUInt8, "symmetric": False, "reduce_range": False}]
        if right in floats and known[right].ndim != 2:  # nor for the columns of a stack of matrices
            overrides[right] = _scales(known[right], None, codes)
    return overrides


def _unsigned(proto: onnx.ModelProto, granularity: Granularity) -> dict[str, list[dict[str, Any]]]:
    """Scales of unsigned weights, stated: left alone, the quantizer spreads them over 255 steps and not over 254,
    and no code stands for the largest weight."""
    nodes, known = {node.name: node for node in proto.graph.node}, constants(proto)
    overrides: dict[str, list[dict[str, Any]]] = {}
    for layer in find_layers(proto):
        weight = known[layer.weight]
        if layer.op != "embedding" and (weight.ndim == 2 or nodes[layer.node].op_type == "Conv"):
            axis = channel_axis(nodes[layer.node]) if granularity == "per-channel" else None
            overrides[layer.weight] = _scales(weight, axis, "u8")
    return overrides


def _scales(weight: Array, axis: int | None, codes: WeightCodes) -> list[dict[str, Any]]:
    """Symmetric scales as the quantizer reads them: one for each index of `axis`, or one for all."""
    from onnxruntime.quantization import QuantType

    others = None if axis is None else tuple(k for k in range(weight.ndim) if k != axis)
    largest = np.abs(weight).max(axis=others).reshape(-1)
    limit = np.float32(LARGEST_CODE[codes])
    scales = np.where(largest > 0, largest / limit, np.float32(1)).astype(np.float32)
    unsigned = codes == "u8"
    one = {
        "quant_type": QuantType.QUInt8 if unsigned else QuantType.QInt8,
        "zero_point": np.array(128, np.uint8) if unsigned else np.array(0, np.int8),
    }
    return [one | {"scale": scale} | ({} if axis is None else {"axis": axis}) for scale in scales]
