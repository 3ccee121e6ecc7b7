"""What `edgec.ladder.compiler.ArtifactCompiler` is asked and answers: both sides import these records."""

from __future__ import annotations

from pathlib import Path

from edgec.backends.interface import Artifact, Layer, LayerFidelity
from edgec.frozen import Frozen
from edgec.passes.contract import PassRecord
from edgec.quant.recipe import Recipe
from edgec.target.spec import Precision, Target


class CompilerOptions(Frozen):
    """What all requests to one compiler share."""

    target: Target
    emit: int
    """Place of the artifact in the target's ``emit`` list."""
    calibration: Path | None
    """Folder of the calibration samples."""
    work: Path
    """Private folder."""
    seed: int
    threads: int


class RecipeRequest(Frozen):
    """An artifact, by its recipe."""

    model: Path
    """Folder of the float model (`edgec.model.store`)."""
    recipe: Recipe
    precision: Precision


class CompileRequest(RecipeRequest):
    """Write the artifact."""

    out: Path
    """Folder to write it to."""


class CompileAnswer(Frozen):
    """An artifact that was written."""

    artifact: Artifact
    passes: tuple[PassRecord, ...]


class SamplesRequest(RecipeRequest):
    """Run the artifact on samples."""

    spool: Path
    """Folder of the samples."""
    indices: tuple[int, ...]
    """Of the samples to run."""
    out: Path
    """Folder for the outputs."""
    runtime: str


class SamplesAnswer(Frozen):
    """Outputs of an artifact."""

    outputs: dict[str, str]
    """Output name -> .npy of shape (samples, *output shape)."""
    failure: str
    """Why the recipe gives no artifact that runs; empty: it does."""


class LayersAnswer(Frozen):
    """The layers that a recipe can leave in float."""

    layers: tuple[Layer, ...]


class FidelityAnswer(Frozen):
    """SQNR of each layer's output."""

    layers: tuple[LayerFidelity, ...]
