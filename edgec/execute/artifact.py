"""An artifact that was made, with everything known about it; or why it was not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.backend.protocol import Artifact, LayerFidelity
from edgec.errors import EdgecError
from edgec.ladder.trial import Attempt
from edgec.passes.contract import Coverage, PassRecord
from edgec.verify.records import Measurement, RungRecord


@dataclass(frozen=True)
class BuiltArtifact:
    """One artifact with everything known about it."""

    attempt: Attempt
    passes: tuple[PassRecord, ...]
    """Of the float model, then of the backend."""
    rungs: tuple[RungRecord, ...]
    layers: tuple[LayerFidelity, ...]
    coverage: tuple[Coverage, ...]
    hurried: bool
    """Whether time ran out before all rungs were tried."""
    twin: tuple[Artifact, Path] | None
    """The same in float32, and its folder; None when this is that."""

    @property
    def artifact(self) -> Artifact:
        """What was emitted."""
        return self.attempt.artifact

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.attempt.folder / self.artifact.file

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """One for each runtime."""
        return self.attempt.measurements


@dataclass(frozen=True)
class FailedArtifact:
    """An artifact that `keep_going` went on without."""

    file: str
    error: EdgecError


def outputs_folder(folder: Path, runtime: str) -> Path:
    """Where the outputs of an attempt in a runtime are, one ``<output>.npy`` each."""
    return folder / "outputs" / runtime
