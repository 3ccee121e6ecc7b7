"""Static int8: QDQ pairs by ONNX Runtime's quantizer, with edgec's ranges and its silent failures made loud."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgec.backend.layer_names import select
from edgec.backends.onnxruntime.calibrate import ranges, unusable
from edgec.backends.onnxruntime.capability import STATIC_COMPUTE, Granularity, WeightCodes
from edgec.backends.onnxruntime.exclude import RECIPE_REASON, nodes_to_exclude
from edgec.backends.onnxruntime.graph import OnnxModel, check_names, producers
from edgec.backends.onnxruntime.layers import find_layers
from edgec.backends.onnxruntime.observe import observed_tensors
from edgec.backends.onnxruntime.place_pairs import Placement
from edgec.backends.onnxruntime.refused import place_what_runs
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
        placement = self._placement(model, [layer.node for layer in layers], kept)
        check_names(model.proto, placement.excluded, where)
        proto, refused = place_what_runs(model, placement, lambda: self._placement(model, [], {}), ctx)
        excluded = {**placement.excluded, **refused}
        count, total = _static_count(proto)
        if not count:
            raise _nothing_quantized(model.proto, where, len(kept), len(layers), refused)
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

    def _placement(self, model: OnnxModel, layers: Collection[str], kept: Collection[str]) -> Placement:
        """Where pairs go when the layers at the nodes `kept`, of those at the nodes `layers`, stay in float."""
        bad = unusable(model)
        spans = {tensor: span for tensor, span in ranges(model, self.calibration).items() if tensor not in bad}
        excluded = nodes_to_exclude(model.proto, bad, layers, kept)
        return Placement(spans, excluded, self.weights, self.codes)

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


def _nothing_quantized(
    proto: onnx.ModelProto, where: str, kept: int, layers: int, refused: Mapping[str, str]
) -> UnsupportedError:
    kinds = ", ".join(sorted({node.op_type for node in proto.graph.node}))
    hint = f"it takes {', '.join(STATIC_COMPUTE)} with constant weights; the model has {kinds}"
    if kept:
        hint += f"; the recipe keeps {kept} of {layers} layers in float"
    for name, reason in list(refused.items())[:1]:
        hint += f"; {name}: {reason}"
    return UnsupportedError("nothing of the model can be quantized to static int8", where=where, hint=hint)


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
