"""The passes that need no calibration: they edit the float program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from edgec.backends.tflite.capability import DYNAMIC_INT8, MIN_DYNAMIC_ELEMENTS
from edgec.backends.tflite.model import Arithmetic, LiteModel
from edgec.errors import PassError, UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage
from edgec.quant.half import WHY_SPARED

_DENSE_PER_TENSOR = Coverage(
    subject="FULLY_CONNECTED weights",
    state="per-tensor",
    reason="tflite-runtime 2.14 refuses per-channel ones with float activations (FULLY_CONNECTED version 12), "
    "and this target must run in it",
)
_FP32 = "build an fp32 target"


@dataclass(frozen=True)
class StoreFloat16(Pass[LiteModel]):
    """Weights stored as float16; arithmetic stays float32, on every CPU."""

    name: ClassVar[str] = "store-float16"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.tflite.finish import finish
        from edgec.backends.tflite.flatbuffer import pack, unpack
        from edgec.backends.tflite.store_half import store_half

        edited = unpack(model.content)
        stored, beyond, small = store_half(edited)
        if not stored:
            raise UnsupportedError("the model has no constants to store as float16", where=self.name, hint=_FP32)
        content = finish(pack(edited))
        coverage: tuple[Coverage, ...] = (
            Coverage(
                subject="all arithmetic",
                state="float32",
                reason="this CPU has no fp16 arithmetic: float16 is storage only"
                if not ctx.target.device.has_fp16_arithmetic
                else "TFLite's CPU kernels unpack float16 weights and compute in float32 by default",
            ),
        )
        reason = "float16 does not hold its values: beyond 65504, or too small"
        coverage += tuple(Coverage(subject=name, state="float32", reason=reason) for name in beyond)
        if small:
            coverage += (Coverage(subject=f"{small} constants", state="float32", reason=WHY_SPARED),)
        result = model.with_content(content, "float16-weights", coverage)
        return PassResult(result, f"{len(model.content)} -> {len(content)} bytes", coverage)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        from edgec.backends.tflite.flatbuffer import read_ops

        halves = any(tensor.dtype == "float16" for op in read_ops(model.content) for tensor in op.inputs)
        return None if halves else "no tensor is stored as float16"


@dataclass(frozen=True)
class QuantizeDynamic(Pass[LiteModel]):
    """Weights in int8, activations quantized as they come; needs no calibration."""

    per_channel: bool = True
    per_channel_dense: bool = False

    name: ClassVar[str] = "quantize-dynamic"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.tflite.audit import coverage_of
        from edgec.backends.tflite.finish import audit_content, finish
        from edgec.backends.tflite.flatbuffer import pack, unpack
        from edgec.backends.tflite.store_dynamic import store_dynamic

        edited = unpack(model.quantizable.content if model.quantizable else model.content)
        store_dynamic(edited, per_channel=self.per_channel, per_channel_dense=self.per_channel_dense)
        content = finish(pack(edited))
        records = audit_content(content, "int8-dynamic")
        coverage = coverage_of(records)
        quantized = [item for item in records if item.dtype == "int8" and item.op in DYNAMIC_INT8]
        if self.per_channel and not self.per_channel_dense and any(i.op == "FULLY_CONNECTED" for i in quantized):
            coverage += (_DENSE_PER_TENSOR,)
        if not quantized:
            raise UnsupportedError(
                f"dynamic quantization finds nothing to quantize: all weights have fewer than {MIN_DYNAMIC_ELEMENTS} "
                "elements, or are of ops it does not cover",
                where=self.name,
                hint="build an fp32 or int8 target",
            )
        summary = f"{len(quantized)} of {len(records)} ops with int8 weights"
        return PassResult(model.with_content(content, "int8-dynamic", coverage), summary, coverage)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        from edgec.backends.tflite.finish import audit_content

        records = audit_content(model.content, "int8-dynamic")
        present = any(item.dtype == "int8" and item.op in DYNAMIC_INT8 for item in records)
        return None if present else "no op has int8 weights"


@dataclass(frozen=True)
class QuantizeWeights(Pass[LiteModel]):
    """Weights stored in 8 or 4 bits, arithmetic in float32; needs no calibration."""

    bits: Literal[8, 4] = 8
    per_channel: bool = True
    block: int | None = None
    float_layers: tuple[str, ...] = ()

    name: ClassVar[str] = "quantize-weights"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.layer_names import select
        from edgec.backends.tflite.audit import coverage_of, kept_in_float
        from edgec.backends.tflite.finish import audit_content, finish
        from edgec.backends.tflite.flatbuffer import pack, unpack
        from edgec.backends.tflite.store_weights import Storage, store_weights

        if model.quantizable is None:
            raise PassError("the float program is missing", where=self.name, hint="this is a defect of edgec")
        chosen = select(model.quantizable.layers, self.float_layers, self.name)
        edited = unpack(model.quantizable.content)
        places = {place for layer in chosen for place in layer.places}
        stored, blocks = store_weights(edited, Storage(self.bits, self.per_channel, self.block), places)
        if not stored:
            raise UnsupportedError("the model has no weights to store in codes", where=self.name, hint=_FP32)
        content = finish(pack(edited))
        kept = tuple(map(kept_in_float, self.float_layers))
        coverage = (*kept, *coverage_of(audit_content(content, ctx.target.precision, kept)))
        if self.block and blocks < stored:
            reason = f"the weights of an output channel are no more than a block, or no multiple of {self.block}"
            coverage += (Coverage(subject=f"{stored - blocks} weights", state="per-channel", reason=reason),)
        arithmetic: Arithmetic = "int8-weights" if self.bits == 8 else "int4-weights"
        summary = f"{stored} weights in {self.bits} bits" + (f", {blocks} of them in blocks" if self.block else "")
        return PassResult(model.with_content(content, arithmetic, coverage), summary, coverage)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        from edgec.backends.tflite.flatbuffer import read_ops

        wanted = f"int{self.bits}"
        present = any(op.op == "DEQUANTIZE" and op.inputs[0].dtype == wanted for op in read_ops(model.content))
        return None if present else f"no weight is stored as {wanted}"
