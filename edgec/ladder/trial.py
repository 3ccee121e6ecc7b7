"""One artifact under trial: recipes are scored on calibration samples; attempts are made, verified and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from edgec.backends.interface import Artifact, OpDifference
from edgec.ladder.maker import ArtifactMaker, CompiledArtifact, ScoringSamples
from edgec.ladder.runtimes import AllowedRuntimes, left_out
from edgec.ladder.verifier import Verifier
from edgec.passes.contract import PassRecord
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.target.spec import Precision
from edgec.verify.records import CandidateScore, GateResult, Measurement


@dataclass(frozen=True)
class Attempt:
    """One artifact that was made and verified."""

    recipe: Recipe
    precision: Precision
    made: CompiledArtifact
    """Its folder also holds ``outputs/<runtime>``."""
    measurements: tuple[Measurement, ...] = ()
    gates: tuple[GateResult, ...] = ()
    left_out: tuple[Coverage, ...] = ()
    """Runtimes that are wrong where another one is right, and are therefore not judged."""

    @property
    def artifact(self) -> Artifact:
        """Its record."""
        return self.made.artifact

    @property
    def folder(self) -> Path:
        """Where its file is."""
        return self.made.folder

    @property
    def passes(self) -> tuple[PassRecord, ...]:
        """The backend's passes."""
        return self.made.passes

    @property
    def missed(self) -> tuple[GateResult, ...]:
        """Gates that are not met, for which the next rung is tried."""
        return tuple(gate for gate in self.gates if gate.state in ("failed", "short"))

    @property
    def refused(self) -> bool:
        """Whether a gate forbids keeping it; other missed gates are only recorded."""
        return any(gate.state == "failed" for gate in self.gates)

    @property
    def worst_sqnr(self) -> float:
        """Of all judged runtimes, in dB; -inf when one of them failed."""
        values = [item.sqnr_db() for item in self.measurements if item.judged]
        return min((-math.inf if value is None else value for value in values), default=-math.inf)


class Trial:
    """Makes, runs and judges one artifact by any recipe, for the ladder.

    Args:
        maker: makes it.
        verifier: runs and judges it.
        samples: what candidates are compared on; None for precisions that have no candidates.
    """

    def __init__(self, maker: ArtifactMaker, verifier: Verifier, samples: ScoringSamples | None = None) -> None:
        self.maker, self.samples = maker, samples
        self._verifier = verifier
        self._runtimes = AllowedRuntimes(maker.item.runtimes, insisted=maker.item.emit.runtimes is not None)
        self._attempts = 0

    def score(self, recipe: Recipe, samples: ScoringSamples | None = None) -> CandidateScore:
        """How near the artifact of `recipe` is to the float model, in its first right runtime.

        Args:
            recipe: what to make.
            samples: None: the trial's own.
        """
        samples = samples or self.samples
        if samples is None:
            raise ValueError("no samples to score candidates on")
        return self.maker.score(recipe, samples, self._runtimes.in_order[0].name)

    def attempt(self, recipe: Recipe, precision: Precision | None = None) -> Attempt:
        """Make the artifact, and verify it in its runtimes up to the first that misses a gate (see `complete`).

        Args:
            recipe: how it is quantized.
            precision: None: the target's.

        Raises:
            EdgecError: it cannot be made.
        """
        self._attempts += 1
        precision = precision or self.maker.target.precision
        made = self.maker.compile(recipe, self.maker.scratch / f"attempt-{self._attempts}", precision)
        return self._verified(Attempt(recipe, precision, made), all_runtimes=False)

    def complete(self, attempt: Attempt) -> Attempt:
        """`attempt`, also verified in the runtimes that were omitted after one missed a gate."""
        return self._verified(attempt, all_runtimes=True)

    def _verified(self, attempt: Attempt, *, all_runtimes: bool) -> Attempt:
        done = {item.runtime for item in attempt.measurements}
        for runtime in self._runtimes.in_order:
            if runtime.name in done:
                continue
            if attempt.missed and not all_runtimes and not self._runtimes.unknown:
                break
            measured = (*attempt.measurements, self._verifier.verify(attempt.made, runtime))
            attempt = replace(attempt, measurements=measured, gates=self._verifier.judge(measured))

        def find(right: str, wrong: str) -> OpDifference | None:
            return self._verifier.first_difference(attempt.made, right, wrong)

        if attempt.missed:
            measured = self._runtimes.leave_out_wrong(attempt.measurements, attempt.missed, find)
            attempt = replace(attempt, measurements=measured, gates=self._verifier.judge(measured))
        order = [item.name for item in self.maker.item.runtimes]
        return replace(
            attempt,
            measurements=tuple(sorted(attempt.measurements, key=lambda item: order.index(item.runtime))),
            left_out=left_out(attempt.artifact.file, self._runtimes),
        )
