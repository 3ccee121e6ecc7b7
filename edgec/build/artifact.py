"""An artifact that was made, with everything known about it; or why the bundle does not have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.backends.interface import Artifact, LayerFidelity
from edgec.bundle.manifest import MEASUREMENTS
from edgec.errors import EdgecError
from edgec.ladder.maker import CompiledArtifact
from edgec.ladder.trial import Attempt
from edgec.passes.contract import PassRecord
from edgec.passes.coverage import Coverage, CoverageState
from edgec.verify.gates import gate_line
from edgec.verify.ranges import RangeRecord
from edgec.verify.records import TIMED, GateResult, Measurement, RungRecord


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
    twin: CompiledArtifact | None
    """The same in float32; None where it is float32 itself, or could not be made."""
    ranges: RangeRecord | None = None
    """How evaluation samples lie in its calibrated ranges; None where that was not asked for."""

    @property
    def artifact(self) -> Artifact:
        """What was emitted."""
        return self.attempt.artifact

    @property
    def file(self) -> Path:
        """Where it is."""
        return self.attempt.made.file

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """One for each runtime."""
        return self.attempt.measurements

    @property
    def working_runtimes(self) -> tuple[str, ...]:
        """Judged runtimes that run it, the one that is timed first."""
        return tuple(item.runtime for item in self.measurements if item.judged and not item.failure)


@dataclass(frozen=True)
class FailedArtifact:
    """An artifact that the bundle is made without."""

    file: str
    error: EdgecError
    """Its place begins with the file."""
    missed: tuple[GateResult, ...] = ()
    """Gates that it misses, where it could be made."""

    def __str__(self) -> str:
        """``NOT BUILT: model.tflite: <where>: <what>``, and what to do, a line each."""
        return f"{self.state.upper()}: {self.error}"

    @property
    def gap(self) -> Coverage:
        """For the manifest: the same each time and wherever it is built, so without what was timed, and where."""
        place = self.error.where.removeprefix(self.file).lstrip(": ")
        what = self.error.what if not place or Path(place).is_absolute() else f"{place}: {self.error.what}"
        reason = "; ".join(map(_missed_line, self.missed)) or what
        return Coverage(subject=self.file, state=self.state, reason=reason)

    @property
    def state(self) -> CoverageState:
        """What it is instead of built."""
        return "gates missed" if self.missed else "not built"


def _missed_line(gate: GateResult) -> str:
    line = f"{gate.gate} {gate.limit:g}: missed, see {MEASUREMENTS}" if gate.gate in TIMED else gate_line(gate)
    return f"{gate.runtime}: {line}"


def below_goal(gates: Sequence[GateResult]) -> tuple[Coverage, ...]:
    """What to record of the gates of an artifact that is kept though it misses them."""
    return tuple(
        Coverage(subject=f"{gate.artifact} in {gate.runtime}", state="below the goal", reason=gate_line(gate))
        for gate in gates
        if gate.state == "short"
    )
