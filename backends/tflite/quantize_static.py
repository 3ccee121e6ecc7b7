"""The passes of static quantization: statistics of activations, then their ranges and TensorFlow's quantizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from edgec.backends.tflite.capability import NO_ARITHMETIC
from edgec.backends.tflite.model import LiteModel
from edgec.errors import PassError, UnsupportedError
from edgec.passes.contract import Pass, PassContext, PassResult
from edgec.passes.coverage import Coverage, by_reason
from edgec.quant.recipe import RangeMethod
from edgec.target.spec import Emit

if TYPE_CHECKING:
    from edgec.backends.tflite.kept_float import Ranges
    from edgec.backends.tflite.quantizable import Quantizable

_FOREIGN_RANGES = Coverage(
    subject="activation ranges",
    state="min-max",
    reason="the program has loops or branches, whose tensors only TensorFlow's own calibrator sees",
)
_WIDE_RANGES = Coverage(
    subject="activation ranges",
    state="min-max",
    reason="TensorFlow's quantizer of 16-bit activations takes no ranges but its own; 16 bits need no others",
)


@dataclass(frozen=True)
class CollectRanges(Pass[LiteModel]):
    """Run the calibration samples through the float program and keep statistics of what may be quantized.

    They serve every range method (those with histograms, if `histogram`) and every choice of float layers.
    """

    histogram: bool = False

    name: ClassVar[str] = "collect-ranges"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.tflite.observe import observe

        quantizable = _quantizable(model, self.name)
        if not quantizable.own_ranges:
            return PassResult(replace(model, statistics={}), "ranges by TensorFlow's calibrator", (_FOREIGN_RANGES,))
        assert ctx.calibration is not None, "there is a quantizable program only where there are samples"
        statistics = observe(
            quantizable.content, model.inputs, ctx.calibration, histogram=self.histogram, threads=ctx.threads
        )
        kind = "histograms" if self.histogram else "extremes"
        summary = f"{kind} of {len(statistics)} tensors over {len(ctx.calibration)} samples"
        return PassResult(replace(model, statistics=statistics), summary)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        return None if model.statistics is not None else "there are no statistics"


@dataclass(frozen=True)
class QuantizeStatic(Pass[LiteModel]):
    """Weights and activations in int8, ranges by `method`, all but `float_layers`; inputs and outputs stay float."""

    method: RangeMethod = "minmax"
    float_layers: tuple[str, ...] = ()
    per_channel: bool = True

    name: ClassVar[str] = "quantize-static"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.layer_names import select
        from edgec.backends.tflite.audit import coverage_of, kept_in_float
        from edgec.backends.tflite.finish import audit_content, finish
        from edgec.backends.tflite.static_int8 import quantize

        quantizable = _quantizable(model, self.name)
        chosen = select(quantizable.layers, self.float_layers, self.name)
        ranges = self._ranges(model, quantizable)
        made = quantize(quantizable, ranges, chosen, per_channel=self.per_channel, runtimes=_tried(ctx))
        content = finish(made.content)
        kept = tuple(map(kept_in_float, self.float_layers))
        records = audit_content(content, "int8", kept)
        coverage = (*kept, *coverage_of(records), *made.coverage)
        quantized = sum(item.dtype == "int8" for item in records)
        if not chosen and not any(item.dtype == "int8" and item.op not in NO_ARITHMETIC for item in records):
            said = (*made.coverage, *coverage)
            reasons = by_reason((item.subject, item.reason) for item in said if item.reason)
            raise UnsupportedError(
                "nothing of the model can be computed in int8 by TFLite",
                where=f"pass {self.name}",
                hint="; ".join([*reasons[:3], "a target of precision fp16 or int8-weight-only takes it"]),
            )
        summary = f"{quantized} of {len(records)} ops int8, {self.method} ranges"
        if chosen:
            summary += f", {len(chosen)} layers kept in float"
        return PassResult(model.with_content(content, "int8", coverage), summary, coverage)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        from edgec.backends.tflite.finish import audit_content, finish
        from edgec.backends.tflite.layers import WITH_WEIGHTS
        from edgec.backends.tflite.static_int8 import dtypes_of_layers, quantize

        quantizable = _quantizable(model, self.name)
        dtypes = dtypes_of_layers(quantizable, model.content)
        if wrong := [name for name in self.float_layers if dtypes.get(name, "float32") != "float32"]:
            return f"{', '.join(wrong)} computes in int8, though it is to stay float"
        others = {layer.name for layer in quantizable.layers if layer.op in WITH_WEIGHTS} - set(self.float_layers)
        others &= {name for name, dtype in dtypes.items() if dtype == "float32"}
        if self.float_layers and others:  # these must be the layers that no recipe quantizes
            ranges = self._ranges(model, quantizable)
            full = quantize(quantizable, ranges, (), per_channel=self.per_channel, runtimes=_tried(ctx))
            free = dtypes_of_layers(quantizable, finish(full.content))
            if lost := sorted(name for name in others if free.get(name) != dtypes[name]):
                return f"{', '.join(lost)} stays in float, though only {', '.join(self.float_layers)} shall"
        integer = any(i.dtype == "int8" for i in audit_content(model.content, "int8") if i.op not in NO_ARITHMETIC)
        return None if integer or self.float_layers else "no op computes in int8"

    def _ranges(self, model: LiteModel, quantizable: Quantizable) -> Ranges:
        from edgec.backends.tflite.static_int8 import choose_ranges

        if model.statistics is None:
            raise PassError("the ranges were not collected", where=self.name, hint="this is a defect of edgec")
        return choose_ranges(quantizable, model.statistics, self.method)


@dataclass(frozen=True)
class QuantizeInt16(Pass[LiteModel]):
    """Weights in int8, activations in int16, by TensorFlow's own calibrator: much slower, nearly exact."""

    per_channel: bool = True
    runtimes: tuple[str, ...] = ()
    """What must be able to run it: not every kernel has a 16-bit form, and interpreters may abort."""

    name: ClassVar[str] = "quantize-int16"

    def run(self, model: LiteModel, ctx: PassContext) -> PassResult[LiteModel]:
        from edgec.backends.tflite.audit import coverage_of
        from edgec.backends.tflite.by_calibrator import quantize_int16
        from edgec.backends.tflite.finish import audit_content, finish
        from edgec.backends.tflite.layout import to_artifact
        from edgec.backends.tflite.try_out import check_runs

        if ctx.calibration is None or not len(ctx.calibration):
            raise PassError("static quantization needs a calibration set", where=self.name, hint=_CALIBRATE)
        content = finish(quantize_int16(model.content, model.inputs, ctx.calibration, per_channel=self.per_channel))
        sample = ctx.calibration[0]
        fed = {item.artifact_name: to_artifact(sample[item.name], item.permutation) for item in model.inputs}
        check_runs(content, fed, self.runtimes, ctx.work)
        records = audit_content(content, "int8")
        coverage = (_WIDE_RANGES, *coverage_of(records))
        quantized = sum(item.dtype == "int16" for item in records)
        summary = f"{quantized} of {len(records)} ops with int16 activations, {len(ctx.calibration)} samples"
        return PassResult(model.with_content(content, "int16", coverage), summary, coverage)

    def ensures(self, model: LiteModel, ctx: PassContext) -> str | None:
        from edgec.backends.tflite.finish import audit_content

        records = [item for item in audit_content(model.content, "int8") if item.op not in NO_ARITHMETIC]
        return None if any(item.dtype == "int16" for item in records) else "no op computes in int16"


_CALIBRATE = "state [calibration] data"


def _quantizable(model: LiteModel, where: str) -> Quantizable:
    if model.quantizable is None:
        raise PassError("static int8 needs a calibration set", where=where, hint=_CALIBRATE)
    return model.quantizable


def _tried(ctx: PassContext) -> tuple[str, ...]:
    from edgec.backends.tflite.runtimes import tried_runtimes

    return tried_runtimes(ctx.target, ctx.emit or Emit(backend="tflite"))
