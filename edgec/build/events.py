"""Events of a build besides its steps (`edgec.events.Step`)."""

from __future__ import annotations

from dataclasses import dataclass

from edgec.build.inputs import Inputs
from edgec.build.result import BuildResult
from edgec.check.records import Finding
from edgec.errors import BackendUnavailableError
from edgec.events import Event
from edgec.plan.plan import Plan


@dataclass(frozen=True)
class ArtifactUnavailable(Event):
    """An artifact cannot be made here, for want of packages; the others are built."""

    file: str
    error: BackendUnavailableError


@dataclass(frozen=True)
class ProblemFound(Event):
    """Something is doubtful about the model or the samples."""

    finding: Finding


@dataclass(frozen=True)
class InputsRead(Event):
    """The model and the samples are read, and nothing is made of them yet."""

    inputs: Inputs


@dataclass(frozen=True)
class ArtifactsMeasured(Event):
    """All artifacts are made and measured; which of them are kept follows from the gates."""

    plan: Plan
    result: BuildResult
    all_or_nothing: bool
    """Whether one missed gate ends the build."""
