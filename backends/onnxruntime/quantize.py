"""Static and dynamic int8 by ONNX Runtime's quantizer, with its silent failures made loud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from edgec.backends.onnxruntime.calibrate import observe_ranges, unusable
from edgec.backends.onnxruntime.capability import DYNAMIC_OPS, INTEGER_PRODUCTS, STATIC_COMPUTE, STATIC_OPS, WeightCodes
from edgec.backends.onnxruntime.exclude import nodes_to_exclude
from edgec.backends.onnxruntime.graph import OnnxModel, check_names, copy, name_nodes, producers
from edgec.backends.onnxruntime.lower import quiet_logging
from edgec.backends.onnxruntime.untie import separate_lstm_weights, transpose_gemm_weights, untie_weights
from edgec.errors import DatasetError, PassError, UnsupportedError
from edgec.passes.contract import Coverage, PassContext, PassResult

if TYPE_CHECKING:
    import onnx

Granularity = Literal["per-channel", "per-tensor"]


@dataclass(frozen=True)
class QuantizeStatic:
    """QDQ quantization: affine u8 activations from min-max calibration, symmetric weights, int32 biases.

    ReLU and ReLU6 go: the output range of the op before them starts at 0 (and ends at 6), so saturation clamps.
    """

    weights: Granularity = "per-channel"
    codes: WeightCodes = "s8"

    @property
    def name(self) -> str:
        return "quantize-static"

    def requires(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if ctx.calibration is None:
            raise DatasetError("static int8 needs calibration samples", where=f"pass {self.name}")
        ranges = observe_ranges(model, ctx.calibration, threads=ctx.threads, work=ctx.work)
        excluded = nodes_to_exclude(model.proto, ranges)
        check_names(model.proto, excluded, f"pass {self.name}")
        bad = unusable(ranges)
        usable = {tensor: span for tensor, span in ranges.items() if tensor not in bad}
        untied = copy(model)
        untie_weights(untied)
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
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )
            try:
                quantizer.quantize_model()
            except (ValueError, RuntimeError) as exc:
                raise PassError(f"ONNX Runtime's quantizer fails: {exc}", where=f"pass {self.name}") from exc
        proto = quantizer.model.model
        name_nodes(proto)
        count, total = _static_count(proto)
        if not count:
            kinds = ", ".join(sorted({node.op_type for node in model.proto.graph.node}))
            raise UnsupportedError(
                "nothing of the model can be quantized to static int8",
                where=f"pass {self.name}",
                hint=f"it takes {', '.join(STATIC_COMPUTE)} with constant weights; the model has {kinds}",
            )
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs),
            f"{count} of {total} {'/'.join(STATIC_COMPUTE)} to int8, {self.weights} {self.codes} weights, "
            f"{len(ctx.calibration)} samples",
            [Coverage(subject=name, state="float32", reason=reason) for name, reason in excluded.items()],
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None if _static_count(model.proto)[0] else "no op reads quantized tensors"


@dataclass(frozen=True)
class QuantizeDynamic:
    """Signed weights for matrix products and LSTM; activations are quantized as the model runs."""

    weights: Granularity = "per-channel"
    codes: Literal["s8", "s7"] = "s8"

    @property
    def name(self) -> str:
        return "quantize-dynamic"

    def requires(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        source, result = ctx.work / "dynamic-source.onnx", ctx.work / "dynamic.onnx"
        untied = copy(model)
        untie_weights(untied)
        transpose_gemm_weights(untied)
        separate_lstm_weights(untied)
        onnx.save(untied, str(source))
        with quiet_logging():
            try:
                quantize_dynamic(
                    str(source),
                    str(result),
                    op_types_to_quantize=list(DYNAMIC_OPS),
                    per_channel=self.weights == "per-channel",
                    reduce_range=self.codes == "s7",
                    weight_type=QuantType.QInt8,
                )
            except (ValueError, RuntimeError) as exc:
                raise PassError(f"ONNX Runtime's quantizer fails: {exc}", where=f"pass {self.name}") from exc
        proto = onnx.load(str(result))
        name_nodes(proto)
        count = _dynamic_count(proto)
        if not count:
            raise UnsupportedError(
                "nothing of the model can be quantized to dynamic int8",
                where=f"pass {self.name}",
                hint="it takes linear layers, matrix products with constant weights, and LSTM; "
                "a purely convolutional model needs precision int8",
            )
        total = sum(
            node.op_type in (*DYNAMIC_OPS, "Conv", "ConvTranspose", "GRU", "RNN") for node in model.proto.graph.node
        )
        return PassResult(
            OnnxModel(model.name, proto, model.inputs, model.outputs),
            f"{count} of {total} weighted ops to dynamic int8, {self.weights} {self.codes} weights",
        )

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None if _dynamic_count(model.proto) else "no integer op is in the graph"


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


def _dynamic_count(proto: onnx.ModelProto) -> int:
    return sum(node.op_type in INTEGER_PRODUCTS for node in proto.graph.node)
