"""The backend object for ONNX Runtime. Importing this module imports no framework."""

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
from edgec.backends.onnxruntime import advise, constants, fidelity, graph, lower
from edgec.backends.onnxruntime import emit as emitter
from edgec.backends.onnxruntime.block_codes import largest_code
from edgec.backends.onnxruntime.calibrate import CollectRanges
from edgec.backends.onnxruntime.capability import (
    CAPABILITIES,
    LARGEST_CODE,
    dynamic_linear_codes,
    dynamic_weight_codes,
    static_weight_codes,
)
from edgec.backends.onnxruntime.convert import ConvertToFloat16
from edgec.backends.onnxruntime.fuse_padding import FuseAsymmetricPadding
from edgec.backends.onnxruntime.globalize_pool import GlobalizeAveragePool
from edgec.backends.onnxruntime.graph import OnnxModel
from edgec.backends.onnxruntime.layers import find_layers
from edgec.backends.onnxruntime.quantize import QuantizeStatic
from edgec.backends.onnxruntime.quantize_dynamic import QuantizeDynamic
from edgec.backends.onnxruntime.quantize_weights import QuantizeWeights
from edgec.backends.onnxruntime.runner import OnnxRunner
from edgec.backends.onnxruntime.store_half import StoreHalfWeights
from edgec.errors import UnsupportedError
from edgec.model.graph_ops import GraphOp
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext
from edgec.quant.ranges import needs_histogram
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import PRECISIONS, Emit, Precision, Target

RUNTIME = RuntimeSpec(name="onnxruntime", distribution="onnxruntime")


@dataclass(frozen=True)
class OnnxRuntimeBackend:
    """ONNX files for ONNX Runtime on x86-64 and 64-bit ARM."""

    name: str = "onnxruntime"
    format: Format = emitter.FORMAT
    extra: str = "onnx"
    precisions: tuple[Precision, ...] = PRECISIONS
    packages: tuple[Package, ...] = (
        Package(distribution="onnx", purpose="compile"),
        Package(distribution="onnxruntime", purpose="run"),
    )
    needs_graph: bool = False
    own_quantizer: str = (
        "onnxruntime.quantization places the QDQ pairs, rounds biases to int32 and widens the scale of weights whose "
        "bias would overflow; the runtime's optimizer decides which pairs become integer kernels; sums, products and "
        "pools between two int8 layers are int8 too; dynamic int8 chooses its scales as it runs"
    )

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        reasons = []
        if target.precision not in self.precisions:
            reasons.append(f"precision {target.precision} is not one of {', '.join(self.precisions)}")
        if target.device.arch == "armv7":
            reasons.append("ONNX Runtime has no release for 32-bit ARM")
        if emit.engine is not None:
            reasons.append(f'engine "{emit.engine}": ONNX Runtime has no choice of engines')
        if unknown := sorted(set(emit.runtimes or ()) - {RUNTIME.name}):
            reasons.append(f"runtimes: {', '.join(unknown)}: ONNX artifacts run in {RUNTIME.name}")
        return reasons

    def capability(self, target: Target) -> Sequence[Capability]:
        return CAPABILITIES

    def problems(self, ops: Sequence[GraphOp], target: Target, emit: Emit) -> Sequence[OpProblem]:
        return tuple(advise.problems(ops, target.precision))

    def reasons_against_recipe(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[str]:
        reasons = []
        if recipe.activations == "int16":
            reasons.append("ONNX Runtime's CPU has no integer kernels for 16-bit activations")
        if recipe.float_layers and target.precision != "int8":
            reasons.append(f"float layers: only static int8 has a choice of layers, not {target.precision}")
        return reasons

    def weight_grid(self, target: Target, emit: Emit) -> WeightGrid:
        if target.precision == "int4-weight-only":
            return WeightGrid(limit=largest_code(4))
        if target.precision == "int8-weight-only":
            return WeightGrid(limit=largest_code(8))
        limit = LARGEST_CODE[static_weight_codes(target.device, target.quantize)]
        return WeightGrid(limit=limit, per_channel=target.quantize.weights == "per-channel")

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[OnnxModel]]:
        device, quantize, dynamic = target.device, target.quantize, recipe.linear == "dynamic"
        last: dict[Precision, tuple[Pass[OnnxModel], ...]] = {
            "fp32": (),
            "fp16": (ConvertToFloat16() if device.has_fp16_arithmetic else StoreHalfWeights(),),
            "int8": (
                GlobalizeAveragePool(),
                CollectRanges(histogram=needs_histogram(recipe.calibration), dynamic_linear=dynamic),
                QuantizeStatic(
                    recipe.calibration,
                    recipe.float_layers,
                    quantize.weights,
                    static_weight_codes(device, quantize),
                    dynamic_linear_codes(device, quantize) if dynamic else None,
                ),
            ),
            "int8-weight-only": (QuantizeWeights(8, quantize.block_size),),
            "int4-weight-only": (QuantizeWeights(4, quantize.block_size),),
            "int8-dynamic": (QuantizeDynamic(quantize.weights, dynamic_weight_codes(device, quantize)),),
        }
        return (FuseAsymmetricPadding(), *last[target.precision])

    def artifact_file(self, emit: Emit) -> str:
        return emitter.FILE

    def lower(self, model: FloatModel, ctx: PassContext) -> OnnxModel:
        return lower.lower(model, ctx)

    def fingerprint(self, model: OnnxModel) -> str:
        return graph.fingerprint(model)

    def layers(self, model: OnnxModel) -> Sequence[Layer]:
        return [Layer(name=layer.name, op=layer.op) for layer in find_layers(model.proto)]

    def compare_layers(self, model: OnnxModel, quantized: OnnxModel, ctx: PassContext) -> Sequence[LayerFidelity]:
        return fidelity.compare_layers(model, quantized, ctx)

    def emit(self, model: OnnxModel, ctx: PassContext, out: Path) -> Artifact:
        return emitter.emit(model, ctx, out)

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        return (RUNTIME,)

    def tensors(self, file: Path) -> Mapping[str, str]:
        return constants.tensors(file)

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        if runtime != RUNTIME.name:
            raise UnsupportedError(f'runtime "{runtime}" does not run ONNX artifacts', where=artifact.file)
        return OnnxRunner(artifact, file, threads)

    def watch_ranges(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> RangeWatch:
        from edgec.backends.onnxruntime.ranges import OnnxRangeWatch

        return OnnxRangeWatch(artifact, file, threads)


BACKEND = OnnxRuntimeBackend()
