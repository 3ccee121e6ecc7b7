"""Dynamic int8 by ONNX Runtime's quantizer, with its silent failures made loud."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from edgec.backends.bisect import smallest_excluded
from edgec.backends.onnxruntime.capability import (
    DYNAMIC_OPS,
    DYNAMIC_REASONS,
    FLOAT_REASONS,
    INTEGER_PRODUCTS,
    Granularity,
)
from edgec.backends.onnxruntime.graph import OnnxModel, copy, name_nodes, weights_in_bodies
from edgec.backends.onnxruntime.lower import quiet_logging
from edgec.backends.onnxruntime.refused import refusal, signatures
from edgec.backends.onnxruntime.session import first_line
from edgec.backends.onnxruntime.trial import check_runs
from edgec.backends.onnxruntime.untie import separate_lstm_weights, transpose_gemm_weights, untie_weights
from edgec.errors import PassError, UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class QuantizeDynamic(Pass[OnnxModel]):
    """Signed weights for matrix products and LSTM; activations are quantized as the model runs."""

    weights: Granularity = "per-channel"
    codes: Literal["s8", "s7"] = "s8"

    name: ClassVar[str] = "quantize-dynamic"

    def run(self, model: OnnxModel, ctx: PassContext) -> PassResult[OnnxModel]:
        untied = copy(model)
        untie_weights(untied)
        transpose_gemm_weights(untied)
        separate_lstm_weights(untied)

        def attempt(refused: frozenset[str]) -> onnx.ModelProto:
            proto = self._quantized(untied, refused, ctx)
            check_runs(replace(model, proto=proto), ctx)
            return proto

        known = signatures(untied, DYNAMIC_OPS)
        excluded = smallest_excluded(list(known), attempt, signature=known.__getitem__)
        proto = excluded.result
        count = _dynamic_count(proto)
        if not count:
            raise UnsupportedError(
                "nothing of the model can be quantized to dynamic int8",
                where=f"pass {self.name}",
                hint="it takes linear layers, matrix products with constant weights, and LSTM; "
                "a purely convolutional model needs precision int8",
            )
        kinds = (*DYNAMIC_OPS, "Conv", "ConvTranspose", "GRU", "RNN")
        total = sum(node.op_type in kinds for node in model.proto.graph.node)
        left = {node.name: _why_float(node) for node in proto.graph.node if node.op_type in kinds}
        left |= {name: refusal(why) for name, why in excluded.reasons.items()} | weights_in_bodies(proto)
        return PassResult(
            replace(model, proto=proto, kept_float=left),
            f"{count} of {total} weighted ops to dynamic int8, {self.weights} {self.codes} weights",
            [Coverage(subject=name, state="float32", reason=reason) for name, reason in left.items()],
        )

    def _quantized(self, proto: onnx.ModelProto, refused: Collection[str], ctx: PassContext) -> onnx.ModelProto:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        source, result = ctx.work / "dynamic-source.onnx", ctx.work / "dynamic.onnx"
        onnx.save(proto, str(source))
        try:
            with quiet_logging():
                quantize_dynamic(
                    str(source),
                    str(result),
                    op_types_to_quantize=list(DYNAMIC_OPS),
                    nodes_to_exclude=sorted(refused),
                    per_channel=self.weights == "per-channel",
                    reduce_range=self.codes == "s7",
                    weight_type=QuantType.QInt8,
                )
        except Exception as exc:  # whatever it trips over
            where = f"pass {self.name}"
            raise PassError(f"ONNX Runtime's quantizer fails: {first_line(exc, source)}", where=where) from exc
        quantized = onnx.load(str(result))
        name_nodes(quantized)
        return quantized

    def ensures(self, model: OnnxModel, ctx: PassContext) -> str | None:
        return None if _dynamic_count(model.proto) else "no integer op is in the graph"


def _why_float(node: onnx.NodeProto) -> str:
    kind = node.op_type
    return DYNAMIC_REASONS.get(kind) or FLOAT_REASONS.get(kind) or "its weights are not constants that the kernel takes"


def _dynamic_count(proto: onnx.ModelProto) -> int:
    return sum(node.op_type in INTEGER_PRODUCTS for node in proto.graph.node)
