"""The backend object of the template. Importing this module imports no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.backend.protocol import Artifact, Capability, Format, Package, Runner, RuntimeSpec
from edgec.backends.example import emit as emitter
from edgec.backends.example import lower as lowering
from edgec.backends.example import model as models
from edgec.backends.example.capability import CAPABILITIES
from edgec.backends.example.model import ExampleModel
from edgec.backends.example.quantize import QuantizeStatic
from edgec.backends.example.runner import NumpyRunner
from edgec.errors import UnsupportedError
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, PassContext
from edgec.quant.recipe import Recipe
from edgec.target.spec import Emit, Precision, Target

RUNTIME = RuntimeSpec(name="numpy", distribution="numpy")


@dataclass(frozen=True)
class ExampleBackend:
    """Chains of plain layers, as an ``.npz`` file that NumPy computes."""

    name: str = "example"
    format: Format = "npz"
    extra: str = ""
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    packages: tuple[Package, ...] = (Package(distribution="numpy", purpose="run"),)
    own_quantizer: str = ""

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        reasons = []
        if target.precision not in self.precisions:
            reasons.append(f"precision {target.precision} is not one of {', '.join(self.precisions)}")
        if emit.engine is not None:
            reasons.append(f'engine "{emit.engine}": NumPy has no choice of engines')
        if unknown := sorted(set(emit.runtimes or ()) - {RUNTIME.name}):
            reasons.append(f"runtimes: {', '.join(unknown)}: npz artifacts run in {RUNTIME.name}")
        return reasons

    def capability(self, target: Target) -> Sequence[Capability]:
        return CAPABILITIES

    def passes(self, target: Target, emit: Emit, recipe: Recipe) -> Sequence[Pass[ExampleModel]]:
        return (QuantizeStatic(target.quantize.weights),) if target.precision == "int8" else ()

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

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        if runtime != RUNTIME.name:
            raise UnsupportedError(f'runtime "{runtime}" does not run npz artifacts', where=artifact.file)
        return NumpyRunner(artifact, file)


BACKEND = ExampleBackend()
