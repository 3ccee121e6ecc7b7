"""What the fbgemm and qnnpack backend objects have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.backends.interface import (
    Artifact,
    Capability,
    Format,
    Layer,
    LayerFidelity,
    OpProblem,
    Package,
    RangeWatch,
    Runner,
    RuntimeSpec,
)
from edgec.backends.torch_quant import advise, constants
from edgec.backends.torch_quant import emit as emitter
from edgec.backends.torch_quant import lower as lowering
from edgec.backends.torch_quant.collect import CollectRanges
from edgec.backends.torch_quant.compare import compare_layers
from edgec.backends.torch_quant.layers import layers
from edgec.backends.torch_quant.leave_out import LeaveOutUnsupported
from edgec.backends.torch_quant.model import TorchModel, fingerprint
from edgec.backends.torch_quant.passes import EmbedPadding, QuantizeDynamic, StoreFloat16
from edgec.backends.torch_quant.qconfig import LIMITS, Width
from edgec.backends.torch_quant.quantize import QuantizeStatic
from edgec.backends.torch_quant.runner import TorchRunner
from edgec.errors import UnsupportedError
from edgec.model.graph_ops import GraphOp
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import Arch, Emit, Precision, Target

RUNTIME = RuntimeSpec(name="torch", distribution="torch")
AUTO = "auto"


@dataclass(frozen=True)
class TorchBackend:
    """TorchScript files for one family of torch's quantized kernels."""

    name: str
    arch: Arch
    engines: tuple[str, ...]
    """Engines to choose from, fastest for small models first (`kernels.fastest_first`); the first is the default."""
    capabilities: tuple[Capability, ...]
    format: Format = emitter.FORMAT
    extra: str = ""
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8-dynamic")
    packages: tuple[Package, ...] = (
        Package(distribution="torch", purpose="compile"),
        Package(distribution="torch", purpose="run"),
    )
    needs_graph: bool = True
    own_quantizer: str = (
        "torch.ao.quantization's FX graph mode decides which ops become one integer kernel and which share a scale; "
        "ranges, weights' grids and layers in float are edgec's, but sigmoid and tanh have fixed ranges; "
        "dynamic int8 chooses the ranges of activations as it runs"
    )

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        reasons = []
        if target.precision not in self.precisions:
            reason = f"precision {target.precision} is not one of {', '.join(self.precisions)}"
            weight_only = "; torch has no weight-only CPU kernels for TorchScript"
            reasons.append(reason + weight_only * target.precision.endswith("weight-only"))
        if target.device.arch != self.arch:
            reasons.append(f"{self.name} is for {self.arch}, and the device is {target.device.arch}")
        choices = self.engines if len(self.engines) == 1 else (AUTO, *self.engines)
        if emit.engine is not None and emit.engine not in choices:
            reasons.append(f'engine "{emit.engine}" is not one of {", ".join(choices)}')
        if unknown := sorted(set(emit.runtimes or ()) - {RUNTIME.name}):
            reasons.append(f"runtimes: {', '.join(unknown)}: TorchScript artifacts run in {RUNTIME.name}")
        return reasons

    def capability(self, target: Target) -> Sequence[Capability]:
        return self.capabilities

    def problems(self, ops: Sequence[GraphOp], target: Target, emit: Emit) -> Sequence[OpProblem]:
        return tuple(advise.problems(ops, target.precision, self.name, self.capabilities))

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[TorchModel]]:
        quantize = target.quantize
        if target.precision == "fp16":
            return (StoreFloat16(),)
        if target.precision == "int8-dynamic":
            return (QuantizeDynamic(quantize.weights, quantize.reduced_range == "yes"),)
        if target.precision == "int8":
            chosen = emit.engine not in (None, AUTO)
            engines = (emit.engine,) if chosen and emit.engine else self.engines
            vnni = target.device.has_int8_dot_product
            from edgec.quant.ranges import needs_histogram

            static = QuantizeStatic(
                recipe.calibration,
                recipe.float_layers,
                engines,
                quantize.weights,
                quantize.reduced_range,
                vnni,
                recipe.linear == "dynamic",
            )
            leave_out = LeaveOutUnsupported(engines[0], quantize.weights)
            return (EmbedPadding(), leave_out, CollectRanges(needs_histogram(recipe.calibration)), static)
        return ()

    def reasons_against_recipe(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[str]:
        reasons = []
        if recipe.activations != "int8":
            reasons.append(f"{recipe.activations} activations: torch's quantized kernels take 8 bits only")
        if recipe.float_layers and target.precision != "int8":
            reasons.append(f"float layers: only static int8 has a choice of layers, not {target.precision}")
        return reasons

    def weight_grid(self, target: Target, emit: Emit) -> WeightGrid:
        width: Width = "reduced" if target.quantize.reduced_range == "yes" else "full"
        return WeightGrid(limit=LIMITS[width], per_channel=target.quantize.weights == "per-channel")

    def artifact_file(self, emit: Emit) -> str:
        return f"model.{self.name}.pt"

    def lower(self, model: FloatModel, ctx: PassContext) -> TorchModel:
        engine = ctx.emit.engine if ctx.emit is not None else None
        quantize = ctx.target.precision in ("int8", "int8-dynamic")
        chosen = self.engines[0] if engine in (None, AUTO) or not engine else engine
        return lowering.lower(model, chosen, quantize=quantize)

    def fingerprint(self, model: TorchModel) -> str:
        return fingerprint(model)

    def layers(self, model: TorchModel) -> Sequence[Layer]:
        return layers(model)

    def compare_layers(self, model: TorchModel, quantized: TorchModel, ctx: PassContext) -> Sequence[LayerFidelity]:
        return compare_layers(model, quantized, ctx)

    def emit(self, model: TorchModel, ctx: PassContext, out: Path) -> Artifact:
        emit = ctx.emit if ctx.emit is not None else Emit(backend=self.name)
        return emitter.emit(model, ctx, out, backend=self.name, file=self.artifact_file(emit))

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        return (RUNTIME,)

    def tensors(self, file: Path) -> Mapping[str, str]:
        return constants.tensors(file)

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        if runtime != RUNTIME.name:
            raise UnsupportedError(f'runtime "{runtime}" does not run TorchScript artifacts', where=artifact.file)
        return TorchRunner(artifact, file, threads)

    def watch_ranges(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> RangeWatch:
        from edgec.backends.torch_quant.ranges import TorchRangeWatch

        return TorchRangeWatch(artifact, file, threads)
