"""Static int8: QDQ pairs by ONNX Runtime's quantizer, with edgec's ranges and its silent failures made loud."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgec.backend.layer_names import select
from edgec.backends.onnxruntime.calibrate import Range, ranges, unusable
from edgec.backends.onnxruntime.capability import STATIC_COMPUTE, STATIC_OPS, Granularity, WeightCodes
from edgec.backends.onnxruntime.exclude import RECIPE_REASON, nodes_to_exclude
from edgec.backends.onnxruntime.graph import (
    MICROSOFT,
    OnnxModel,
    check_names,
    constants,
    consumers,
    copy,
    import_microsoft,
    name_nodes,
    producers,
)
from edgec.backends.onnxruntime.layers import channel_axis, find_layers
from edgec.backends.onnxruntime.lower import quiet_logging
from edgec.backends.onnxruntime.observe import observed_tensors
from edgec.backends.onnxruntime.untie import untie_weights
from edgec.errors import PassError, UnsupportedError
from edgec.passes.contract import Coverage, PassContext, PassResult
from edgec.quant.recipe import RangeMethod

if TYPE_CHECKING:
    import onnx

LEFT_REASON = "left in float by ONNX Runtime's quantizer"


@dataclass(frozen=True)
class QuantizeStatic:
    """QDQ quantization: affine u8 activations, symmetric weights, int32 biases.

    ReLU and ReLU6 go: the output range of the op before them starts at 0 (and ends at 6), so saturation clamps.
    """

    calibration: RangeMethod = "minmax"
    float_layers: tuple[str, ...] = ()
    weights: Granularity = "per-channel"
    codes: WeightCodes = "s8"

    @property
    def name(self) -> str:
        return "quantize-static"

    def requires(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        where = f"pass {self.name}"
        if unseen := sorted(set(observed_tensors(model.proto)) - {*model.statistics}):
            hint = "collect-ranges comes before this pass, and needs calibration samples"
            raise PassError(f"no statistics of {', '.join(unseen)}", where=where, hint=hint)
        layers = find_layers(model.proto)
        kept = {layer.node: layer for layer in select(layers, self.float_layers, where)}
        bad = unusable(model)
        excluded = nodes_to_exclude(model.proto, bad, [layer.node for layer in layers], kept)
        check_names(model.proto, excluded, where)
        usable = {tensor: span for tensor, span in ranges(model, self.calibration).items() if tensor not in bad}
        proto = self._quantized(model, usable, excluded)
        count, total = _static_count(proto)
        if not count:
            kinds = ", ".join(sorted({node.op_type for node in model.proto.graph.node}))
            raise UnsupportedError(
                "nothing of the model can be quantized to static int8",
                where=where,
                hint=f"it takes {', '.join(STATIC_COMPUTE)} with constant weights; the model has {kinds}"
                + (f"; the recipe keeps {len(kept)} of {len(layers)} layers in float" if kept else ""),
            )
        excluded |= dict.fromkeys(sorted(float_layer_nodes(proto) - {*excluded}), LEFT_REASON)
        return PassResult(
            replace(model, proto=proto, statistics={}, kept_float=excluded),
            f"{count} of {total} {'/'.join(STATIC_COMPUTE)} to int8, {self.weights} {self.codes} weights, "
            f"{self.calibration} ranges",
            [
                Coverage(subject=kept[name].name if name in kept else name, state="float32", reason=reason)
                for name, reason in excluded.items()
            ],
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        if not _static_count(model.proto)[0]:
            return "no op reads quantized tensors"
        floats = float_layer_nodes(model.proto)
        told = {name for name, reason in model.kept_float.items() if reason == RECIPE_REASON}
        if len(told) != len(self.float_layers):
            return f"{len(told)} layers are said to be kept in float, the recipe names {len(self.float_layers)}"
        if wrong := sorted(told - floats):
            return f"{', '.join(wrong)} should be float and read quantized weights"
        if wrong := sorted(floats - {*model.kept_float}):
            return f"{', '.join(wrong)} stayed in float, and nothing says why"
        return None

    def _quantized(self, model: OnnxModel, usable: dict[str, Range], excluded: Iterable[str]) -> onnx.ModelProto:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        untied = copy(model)
        untie_weights(untied)
        extra: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
        if self.codes == "u8":
            extra["TensorQuantOverrides"] = _unsigned(untied, self.weights)
        with quiet_logging():
            quantizer = QDQQuantizer(
                untied,
                per_channel=self.weights == "per-channel",
                reduce_range=self.codes == "s7",
                weight_qType=QuantType.QUInt8 if self.codes == "u8" else QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, usable),
                nodes_to_quantize=[],
                nodes_to_exclude=sorted(excluded),
                op_types_to_quantize=list(STATIC_OPS),
                extra_options=extra,
            )
            try:
                quantizer.quantize_model()
            except (ValueError, RuntimeError, KeyError) as exc:
                raise PassError(f"ONNX Runtime's quantizer fails: {exc}", where=f"pass {self.name}") from exc
        proto: onnx.ModelProto = quantizer.model.model
        name_nodes(proto)
        _keep_float(proto)
        _keep_transposed_float(proto)
        return proto


def _keep_float(proto: onnx.ModelProto) -> None:
    """Make layers with float weights between integer ones stay as they are, in place.

    ONNX Runtime's WeightBiasQuantization gives the float weight of a Conv or Gemm between a DequantizeLinear and a
    QuantizeLinear a scale of its own and runs the layer in int8, silently. It does not look at the fused forms of
    these ops, which its own optimizer makes of them and which compute the same without an activation.
    """
    from onnx import helper

    made_by = producers(proto)
    floats = float_layer_nodes(proto)
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
    """The same for ConvTranspose, which has no fused form (and no integer kernel either), in place.

    An identity that the optimizer does not see through parts it from the QuantizeLinear behind it.
    """
    from onnx import helper

    known, made_by, readers = constants(proto), producers(proto), consumers(proto)
    nodes = list(proto.graph.node)
    for node in nodes:
        if node.op_type != "ConvTranspose" or node.input[1] not in known or node.input[0] not in made_by:
            continue
        made = node.output[0]
        rounded = any(reader.op_type == "QuantizeLinear" for reader in readers.get(made, ()))
        if made_by[node.input[0]].op_type == "DequantizeLinear" and rounded:
            node.output[0] = f"{made}_unrounded"
            identity = helper.make_node("LeakyRelu", [node.output[0]], [made], name=f"{node.name}_identity", alpha=1.0)
            proto.graph.node.insert(list(proto.graph.node).index(node) + 1, identity)


def _unsigned(proto: onnx.ModelProto, granularity: Granularity) -> dict[str, list[dict[str, Any]]]:
    """Scales of unsigned weights, stated: left alone, the quantizer spreads them over 255 steps and not over 254,
    and no code stands for the largest weight."""
    from onnxruntime.quantization import QuantType

    nodes, known = {node.name: node for node in proto.graph.node}, constants(proto)
    found: dict[str, list[dict[str, Any]]] = {}
    for layer in find_layers(proto):
        weight = known[layer.weight]
        axis = channel_axis(nodes[layer.node])
        if layer.op == "embedding" or (weight.ndim != 2 and nodes[layer.node].op_type != "Conv"):
            continue
        others = tuple(k for k in range(weight.ndim) if k != axis)
        per_channel = granularity == "per-channel"
        largest = np.abs(weight).max(axis=others) if per_channel else np.abs(weight).max()[None]
        scales = np.where(largest > 0, largest / np.float32(127), np.float32(1)).astype(np.float32)
        one = {"quant_type": QuantType.QUInt8, "zero_point": np.array(128, np.uint8)}
        found[layer.weight] = [one | {"scale": scale} | ({"axis": axis} if per_channel else {}) for scale in scales]
    return found


def float_layer_nodes(proto: onnx.ModelProto) -> set[str]:
    """Nodes of a QDQ graph that read a float weight, though their op has an 8-bit kernel."""
    return {layer.node for layer in find_layers(proto)}


def _static_count(proto: onnx.ModelProto) -> tuple[int, int]:
    """How many matrix products read dequantized data and weights, and how many there are."""
    made_by = producers(proto)
    products = [node for node in proto.graph.node if node.op_type in STATIC_COMPUTE]
    quantized = [
        node
        for node in products
        if all(tensor in made_by and made_by[tensor].op_type == "DequantizeLinear" for tensor in node.input[:2])
    ]
    return len(quantized), len(products)
