"""A third party's backends, by which builds fail in ways that edgec's own should not; copied into test projects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgec.backends.example.backend import ExampleBackend
from edgec.backends.example.model import ExampleModel
from edgec.backends.interface import Artifact, OpDifference, Package, Runner, RuntimeSpec
from edgec.model.spec import Array, FloatModel, Tensors
from edgec.passes.contract import PassContext
from edgec.target.spec import Emit, Target

NEW, OLD = RuntimeSpec(name="acme-new", distribution="numpy"), RuntimeSpec(name="acme-old", distribution="numpy")


class OldRunner:
    """A runtime whose last layer answers with zeros."""

    def __init__(self, right: Runner) -> None:
        self._right = right

    def __call__(self, inputs: Tensors) -> dict[str, Array]:
        return {name: 0 * value for name, value in self._right(inputs).items()}

    def ops(self) -> Sequence[Any]:
        return self._right.ops()


@dataclass(frozen=True)
class TwoRuntimes(ExampleBackend):
    """Of two runtimes one is wrong."""

    def reasons_against(self, target: Target, emit: Emit) -> Sequence[str]:
        return ()

    def emit(self, model: ExampleModel, ctx: PassContext, out: Path) -> Artifact:
        return super().emit(model, ctx, out).model_copy(update={"backend": self.name})

    def runtimes(self, target: Target, emit: Emit) -> Sequence[RuntimeSpec]:
        return (OLD, NEW)

    def runner(self, artifact: Artifact, file: Path, runtime: str, threads: int) -> Runner:
        right = super().runner(artifact, file, "numpy", threads)
        return OldRunner(right) if runtime == OLD.name else right

    def first_difference(
        self, artifact: Artifact, file: Path, right: str, wrong: str, samples: Sequence[Tensors], threads: int
    ) -> OpDifference | None:
        return OpDifference(name="4", op="linear", before_db=120.0, sqnr_db=0.0)


@dataclass(frozen=True)
class Speechless(ExampleBackend):
    """Its toolchain raises what explains nothing."""

    def artifact_file(self, emit: Emit) -> str:
        return "model.speechless"

    def lower(self, model: FloatModel, ctx: PassContext) -> ExampleModel:
        raise KeyError(3)


@dataclass(frozen=True)
class NotInstalled(ExampleBackend):
    """Its packages are missing."""

    def artifact_file(self, emit: Emit) -> str:
        return "model.acme"


TWO_RUNTIMES = replace(TwoRuntimes(), name="two-runtimes")
SPEECHLESS = replace(Speechless(), name="speechless")
NOT_INSTALLED = replace(
    NotInstalled(), name="not-installed", packages=(Package(distribution="acme-compiler", purpose="compile"),)
)
