"""The backend object of the template. Importing this module imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.backends.example import constants
from edgec.backends.example import emit as emitter
from edgec.backends.example import lower as lowering
from edgec.backends.example import model as models
from edgec.backends.example.capability import CAPABILITIES
from edgec.backends.example.model import ExampleModel
from edgec.backends.example.quantize import CollectRanges, QuantizeStatic
from edgec.backends.example.run_npz import run_layers
from edgec.backends.example.runner import NumpyRunner
from edgec.backends.interface import Artifact, Capability, Format, Layer, LayerFidelity, Package, Runner, RuntimeSpec
from edgec.errors import UnsupportedError
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext
from edgec.quant.fidelity import SqnrMeter
from edgec.quant.ranges import needs_histogram
from edgec.quant.recipe import Recipe, WeightGrid
from edgec.target.spec import Emit, Precision, Target

RUNTIME = RuntimeSpec(name="numpy", distribution="numpy")
COMPARED_SAMPLES = 16
"""Calibration samples that layers are compared on."""


@dataclass(frozen=True)
class ExampleBackend:
    """Chains of plain layers, as a file of arrays that NumPy computes."""

    name: str = emitter.NAME
    format: Format = emitter.FORMAT
    extra: str = ""
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    packages: tuple[Package, ...] = (Package(distribution="numpy", purpose="run"),)
    needs_graph: bool = True
    own_quantizer: str = ""

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        reasons = []
        if target.precision not in self.precisions:
            reasons.append(f"precision {target.precision} is not one of {', '.join(self.precisions)}")
        if emit.engine is not None:
            reasons.append(f'engine "{emit.engine}": NumPy has no choice of engines')
        if unknown := sorted(set(emit.runtimes or ()) - {RUNTIME.name}):
            reasons.append(f"runtimes: {', '.join(unknown)}: {self.format.name} artifacts run in {RUNTIME.name}")
        return reasons

    def capability(self, target: Target) -> Sequence[Capability]:
        return CAPABILITIES

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[ExampleModel]]:
        if target.precision != "int8":
            return ()
        statistics = CollectRanges(needs_histogram(recipe.calibration))
        return (statistics, QuantizeStatic(recipe.calibration, target.quantize.weights))

    def reasons_against_recipe(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[str]:
        reasons = []
        if recipe.float_layers:
            reasons.append("a chain is in int8 from end to end, or in float")
        if recipe.linear != "static":
            reasons.append("there are no dynamic kernels")
        if recipe.activations != "int8":
            reasons.append(f"there are no kernels for {recipe.activations} activations")
        return reasons

    def weight_grid(self, target: Target, emit: Emit) -> WeightGrid:
        return WeightGrid(limit=127, per_channel=target.quantize.weights == "per-channel")

    def layers(self, model: ExampleModel) -> Sequence[Layer]:
        return tuple(Layer(name=item.name, op=item.op) for item in model.layers if item.op in ("conv2d", "linear"))

    def compare_layers(self, model: ExampleModel, quantized: ExampleModel, ctx: PassContext) -> Sequence[LayerFidelity]:
        meters = [SqnrMeter() for _ in model.layers]
        for sample in list(ctx.calibration or ())[:COMPARED_SAMPLES]:
            x = sample[model.input.name]
            wanted, got = (run_layers(one.layers, one.arrays, x)[1:] for one in (model, quantized))
            for meter, float_value, value in zip(meters, wanted, got, strict=True):
                meter.add(float_value, value)
        return tuple(
            LayerFidelity(layer=item.name, op=item.op, sqnr_db=meter.sqnr_db)
            for item, meter in zip(model.layers, meters, strict=True)
        )

    def artifact_file(self, emit: Emit) -> str:
        return emitter.FILE

    def lower(self, model: FloatModel, ctx: PassContext) -> ExampleModel:
        return lowering.lower(model)

    def fingerprint(self, model: ExampleModel) -> str:
        return models.fingerprint(model)

    def emit(self, model: ExampleModel, ctx: PassContext, out: Path) -> Artifact:
        return emitter.emit(model, ctx, out)

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        return (RUNTIME,)

    def tensors(self, file: Path) -> Mapping[str, str]:
        return constants.tensors(file)

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        if runtime != RUNTIME.name:
            raise UnsupportedError(
                f'runtime "{runtime}" does not run {self.format.name} artifacts', where=artifact.file
            )
        return NumpyRunner(artifact, file)


BACKEND = ExampleBackend()
