"""Static int8: QDQ pairs by ONNX Runtime's quantizer, with edgec's ranges and its silent failures made loud."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.float_regions import BESIDE
from edgec.backends.layer_names import select
from edgec.backends.onnxruntime.calibrate import ranges, unusable
from edgec.backends.onnxruntime.capability import STATIC_COMPUTE, DynamicCodes, Granularity, WeightCodes
from edgec.backends.onnxruntime.dynamic_linear import DynamicLinear, dynamic_layers
from edgec.backends.onnxruntime.exclude import (
    BESIDE_DYNAMIC,
    EMBEDDING_REASON,
    RECIPE_REASON,
    embeddings,
    never_static,
    nodes_to_exclude,
)
from edgec.backends.onnxruntime.graph import OnnxModel, check_names, producers
from edgec.backends.onnxruntime.layers import PlacedLayer, find_layers
from edgec.backends.onnxruntime.observe import observed_tensors
from edgec.backends.onnxruntime.place_pairs import Placement
from edgec.backends.onnxruntime.refused import place_what_runs
from edgec.errors import PassError, UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage, by_reason
from edgec.quant.recipe import RangeMethod

if TYPE_CHECKING:
    import onnx

DYNAMIC_REASON = "its input is quantized as the model runs, in the range that each sample has there"
LEFT_REASON = "left in float by ONNX Runtime's quantizer"


@dataclass(frozen=True)
class QuantizeStatic(Pass[OnnxModel]):
    """QDQ quantization: affine u8 activations, symmetric weights, int32 biases.

    ReLU and ReLU6 go: the output range of the op before them starts at 0 (and ends at 6), so saturation clamps.
    """

    calibration: RangeMethod = "minmax"
    float_layers: tuple[str, ...] = ()
    weights: Granularity = "per-channel"
    codes: WeightCodes = "s8"
    dynamic: DynamicCodes | None = None
    """How linear layers are stored that quantize their inputs as the model runs; None: they are static."""

    name: ClassVar[str] = "quantize-static"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        where = f"pass {self.name}"
        never = never_static(model.proto) if self.dynamic else ()
        if unseen := sorted(set(observed_tensors(model.proto, never)) - {*model.statistics}):
            hint = "collect-ranges comes before this pass, and needs calibration samples"
            raise PassError(f"no statistics of {', '.join(unseen)}", where=where, hint=hint)
        layers = find_layers(model.proto)
        kept = {layer.node: layer for layer in select(layers, self.float_layers, where)}
        dynamic = [layer for layer in dynamic_layers(model.proto, layers) if self.dynamic and layer.node not in kept]
        placement = self._placement(model, layers, kept, dynamic)
        check_names(model.proto, placement.excluded, where)
        proto, refused = place_what_runs(model, placement, lambda: self._placement(model, [], {}), ctx)
        dynamic = [layer for layer in dynamic if layer.node not in refused]
        excluded = {**placement.excluded, **refused}
        excluded = {name: why for name, why in excluded.items() if name not in {layer.node for layer in dynamic}}
        count, total = _static_count(proto)
        if not count and not dynamic:
            raise _nothing_quantized(model.proto, where, len(kept), len(layers), excluded)
        excluded |= dict.fromkeys(sorted(float_layer_nodes(proto) - {*excluded}), LEFT_REASON)
        return PassResult(
            replace(model, proto=proto, statistics={}, kept_float=excluded),
            f"{count} of {total} {'/'.join(STATIC_COMPUTE)} to int8, {self.weights} {self.codes} weights, "
            f"{self.calibration} ranges" + f"; {len(dynamic)} linear layers dynamic" * bool(dynamic),
            [
                *(Coverage(subject=layer.name, state="int8-dynamic", reason=DYNAMIC_REASON) for layer in dynamic),
                *(
                    Coverage(subject=kept[name].name if name in kept else name, state="float32", reason=reason)
                    for name, reason in excluded.items()
                ),
            ],
        )

    def _placement(
        self,
        model: OnnxModel,
        layers: Sequence[PlacedLayer],
        kept: Collection[str],
        dynamic: Sequence[PlacedLayer] = (),
    ) -> Placement:
        """Where pairs go when, of `layers`, those at the nodes `kept` are in float and those in `dynamic` dynamic."""
        bad = unusable(model)
        spans = {tensor: span for tensor, span in ranges(model, self.calibration).items() if tensor not in bad}
        if not dynamic:
            excluded = nodes_to_exclude(model.proto, bad, [layer.node for layer in layers], kept)
            return Placement(spans, excluded, self.weights, self.codes)
        looked_up = [layer.node for layer in embeddings(layers) if layer.node not in kept]
        others = [*looked_up, *(layer.node for layer in dynamic)]
        excluded = nodes_to_exclude(model.proto, bad, [layer.node for layer in layers], [*kept, *others])
        excluded = {name: BESIDE_DYNAMIC if why == BESIDE else why for name, why in excluded.items()}
        excluded |= dict.fromkeys(looked_up, EMBEDDING_REASON)
        assert self.dynamic is not None
        linear = DynamicLinear(frozenset(layer.node for layer in dynamic), self.weights, self.dynamic)
        return Placement(spans, excluded, self.weights, self.codes, linear)

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        dynamic = sum(node.op_type == "MatMulInteger" for node in model.proto.graph.node)
        if not _static_count(model.proto)[0] and not dynamic:
            return "no op reads quantized tensors"
        if dynamic and not self.dynamic:
            return f"{dynamic} layers are dynamic, and none should be"
        floats = float_layer_nodes(model.proto)
        recorded = {name for name, reason in model.kept_float.items() if reason == RECIPE_REASON}
        if len(recorded) != len(self.float_layers):
            return f"{len(recorded)} layers are recorded as kept in float, the recipe names {len(self.float_layers)}"
        if wrong := sorted(recorded - floats):
            return f"{', '.join(wrong)} should be float and read quantized weights"
        if wrong := sorted(floats - {*model.kept_float}):
            return f"{', '.join(wrong)} stayed in float, and nothing says why"
        return None


def _nothing_quantized(
    proto: onnx.ModelProto, where: str, kept: int, layers: int, excluded: Mapping[str, str]
) -> UnsupportedError:
    kinds = ", ".join(sorted({node.op_type for node in proto.graph.node}))
    hint = f"it takes {', '.join(STATIC_COMPUTE)} with constant weights; the model has {kinds}"
    if kept:
        hint += f"; the recipe keeps {kept} of {layers} layers in float"
    hint = "; ".join([hint, *by_reason(excluded.items())[:3]])
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
