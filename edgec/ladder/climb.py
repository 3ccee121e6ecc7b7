"""Climbing the ladder for one artifact: recipes are tried, cheapest first, until its gates are met."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.errors import EdgecError, LockError, StorageError, UnsupportedError, outside_the_model
from edgec.ladder.lock import LockedArtifact
from edgec.ladder.rungs import FALLBACK, LOCKED, Rung, candidates
from edgec.ladder.sensitivity import most_sensitive_first
from edgec.ladder.trial import Attempt, Trial
from edgec.quant.recipe import Recipe
from edgec.verify.gates import gate_line
from edgec.verify.records import CandidateScore, RungRecord

TIE_DB = 0.2
"""Candidates within this of the best SQNR are equally near to the float model, as far as so few samples can tell.

Of these the first, which is the cheapest, is taken. Agreement does not decide: of 64 samples it has an error of some
points, and calibration samples may be none that the model is sure of.
"""

DOUBTFUL_DB = 10.0
"""Below this SQNR an attempt is so far off that float32 may be wrong as well, which no recipe mends."""

_TIME_UP = "the time budget is used up"


@dataclass(frozen=True)
class Climbed:
    """The artifact that was kept, and every rung on the way."""

    attempt: Attempt
    rungs: tuple[RungRecord, ...]
    hurried: bool = False
    """Whether rungs were left out for want of time: another run may find better."""


class Climb:
    """One artifact's way up.

    Args:
        trial: makes, runs and judges artifacts.
        deadline: `time.monotonic` after which no further rung begins.
        bound: there is no search: the locked recipe must meet the gates.
    """

    def __init__(self, trial: Trial, deadline: float = math.inf, *, bound: bool = False) -> None:
        self._trial = trial
        self._deadline = deadline
        self._bound = bound
        self._attempts: list[Attempt] = []
        self._records: list[RungRecord] = []
        self._scores: dict[Recipe, CandidateScore] = {}

    def run(self, ladder: Sequence[Rung], first: Recipe, locked: LockedArtifact | None = None) -> Climbed:
        """Climb until an attempt meets its gates; else the best attempt is returned, with the gates it missed.

        Args:
            ladder: the rungs.
            first: the cheapest recipe.
            locked: what an earlier build of the same inputs has settled on; taken as it is when it meets the gates.

        Raises:
            LockError: the climb is bound, and the locked recipe does not meet the gates.
            EdgecError: the first rung could make no artifact, and the target allows no fallback.
        """
        try:
            if locked and (found := self._locked(locked)):
                return found
            if not self._attempts:
                self._trial.lower(first)  # else it is found out once for each candidate, after its float corrections
            return self._climb(ladder, first)
        except EdgecError as error:
            # what is wrong with the machine or the project is wrong with any precision
            if self._bound or self._attempts or outside_the_model(error):
                raise
            if fallback := self._fallback(error.what):
                return fallback
            raise

    def _locked(self, entry: LockedArtifact) -> Climbed | None:
        try:
            attempt = self._trial.attempt(entry.recipe, entry.precision)
        except EdgecError as error:
            if self._bound or outside_the_model(error):
                raise
            self._skip(LOCKED, error.what)
            return None
        attempt = attempt if attempt.refused else self._trial.complete(attempt)
        if not attempt.refused:
            return Climbed(attempt, entry.rungs)
        if self._bound:
            missed = "; ".join(f"{gate.runtime}: {gate_line(gate)}" for gate in attempt.missed)
            raise LockError(
                f"edgec.lock's recipe does not meet its gates: {missed}",
                where=attempt.artifact.file,
                hint="build without --locked: that searches for another one",
            )
        self._attempts.append(attempt)
        self._record(LOCKED, attempt, reason="edgec.lock's recipe")
        return None

    def _climb(self, ladder: Sequence[Rung], first: Recipe) -> Climbed:
        best = first
        stopped, hopeless = "", False
        for rung in ladder:
            if self._attempts and time.monotonic() > self._deadline:
                stopped = stopped or _TIME_UP
            if stopped:
                self._skip(rung.name, stopped)
                continue
            try:
                attempt = self._mixed(best) if rung.name == "mixed-precision" else self._screened(rung, best)
            except EdgecError as error:
                if not self._attempts or isinstance(error, StorageError):
                    raise
                self._skip(rung.name, error.what)
                continue
            if attempt is None:
                continue
            if not attempt.missed:
                return self._climbed(attempt)
            if not all(gate.quality for gate in attempt.missed):
                stopped = "no recipe mends the gates that are missed"
                hopeless = any(not gate.quality and gate.gate != "runs" for gate in attempt.missed)
            elif stopped := self._wrong_in_float(attempt):
                hopeless = True
            elif rung.name not in ("mixed-precision", "int16-activations"):
                best = attempt.recipe
        if not self._attempts:
            reasons = "; ".join(f"{item.rung}: {item.reason}" for item in self._records)
            raise UnsupportedError(
                f"no rung of the accuracy ladder can be tried ({reasons})", where=self._trial.item.file
            )
        reason = stopped or "no rung of the accuracy ladder met the gates"
        if not hopeless and (fallback := self._fallback(reason)):
            return fallback
        return self._climbed(self._best())

    def _best(self) -> Attempt:
        """The nearest attempt that is kept though it misses gates; else the nearest, which is refused."""
        nearest = sorted(self._attempts, key=lambda item: item.worst_sqnr, reverse=True)
        for attempt in (item for item in nearest if not item.refused):
            if not (whole := self._trial.complete(attempt)).refused:
                return whole
        return self._trial.complete(nearest[0])

    def _wrong_in_float(self, first: Attempt) -> str:
        """Why no rung can help: the artifact in float32 misses the gates, too. Empty when it does not, or may not."""
        if len(self._attempts) > 1 or first.precision == "fp32" or first.worst_sqnr >= DOUBTFUL_DB:
            return ""
        try:
            plain = self._trial.attempt(Recipe(), "fp32")
        except StorageError:
            raise
        except EdgecError:
            return ""
        missed = "; ".join(f"{gate.runtime}: {gate_line(gate)}" for gate in plain.missed if gate.quality)
        return f"no recipe mends what is wrong in float32 as well ({missed})" if missed else ""

    def _screened(self, rung: Rung, best: Recipe) -> Attempt | None:
        """The candidate that is nearest to the float model on calibration samples, before the gates."""
        told: dict[Recipe, CandidateScore] = {}
        best = best.model_copy(update=rung.base)
        if reasons := self._trial.reasons_against(best):
            self._skip(rung.name, "; ".join(reasons))
            return None
        for variations in rung.stages:
            scores = [self._score(recipe) for recipe in candidates(variations, best)]
            told |= {item.recipe: item for item in scores}
            usable = [item for item in scores if item.sqnr_db is not None]
            if not usable:
                break  # what keeps all of them from being made is in what they share: the attempt tells it
            best = _nearest(usable).recipe
        records = tuple(item.model_copy(update={"chosen": item.recipe == best}) for item in told.values())
        if any(item.recipe == best for item in self._attempts):
            self._skip(rung.name, "none of its recipes is nearer to the float model on calibration samples", records)
            return None
        return self._attempt(rung.name, best, records)

    def _score(self, recipe: Recipe) -> CandidateScore:
        if recipe not in self._scores:
            self._scores[recipe] = self._trial.score(recipe)
        return self._scores[recipe]

    def _mixed(self, best: Recipe) -> Attempt | None:
        """The fewest most sensitive layers in float with which the gates are met."""
        # each variant would be rounded adaptively anew, for layers that may stay in float
        best = best.model_copy(update={"round_adaptively": False})
        order = most_sensitive_first(self._trial, best)
        limit = len(order) // 2
        if not limit:
            self._skip("mixed-precision", "too few layers to leave some of them in float")
            return None
        met: Attempt | None = None
        low, high, count = 0, limit + 1, 1  # `low` layers miss the gates; `high` meet them, or are too many
        last: Attempt | None = None
        while low + 1 < high:
            if time.monotonic() > self._deadline:
                break
            recipe = best.model_copy(update={"float_layers": tuple(sorted({*best.float_layers, *order[:count]}))})
            try:
                last = self._attempt("mixed-precision", recipe)
            except EdgecError:
                if met is None:
                    raise
                break  # fewer layers could not be tried; these are enough
            if last.missed:
                if not all(gate.quality for gate in last.missed):
                    break
                low = count
                count = min(2 * count, limit) if met is None else (low + high) // 2
                if met is None and low == limit:
                    break
            else:
                met, high = last, count
                count = (low + high) // 2
        if last is None:
            self._skip("mixed-precision", _TIME_UP)
        return met or last

    def _attempt(self, rung: str, recipe: Recipe, candidates: tuple[CandidateScore, ...] = ()) -> Attempt:
        attempt = self._trial.attempt(recipe)
        self._attempts.append(attempt)
        self._record(rung, attempt, candidates)
        return attempt

    def _fallback(self, reason: str) -> Climbed | None:
        precision = self._trial.target.quantize.fallback
        if precision is None:
            return None
        attempt = self._trial.attempt(Recipe(), precision)
        self._attempts.append(attempt)
        self._record(FALLBACK, attempt, reason=f"{precision}: {reason}")
        return self._climbed(self._trial.complete(attempt))

    def _record(
        self, rung: str, attempt: Attempt, candidates: tuple[CandidateScore, ...] = (), reason: str = ""
    ) -> None:
        lines = [reason] if reason else []
        lines += [f"{gate.runtime}: {gate_line(gate)}" for gate in attempt.missed]
        lines += [f"{item.subject}: {item.state}" for item in attempt.left_out]
        self._records.append(
            RungRecord(
                artifact=attempt.artifact.file,
                rung=rung,
                state="failed" if attempt.refused else "short" if attempt.missed else "met",
                recipe=attempt.recipe,
                sqnr_db=attempt.worst_sqnr,
                reason="; ".join(lines),
                candidates=candidates,
            )
        )

    def _skip(self, rung: str, reason: str, candidates: tuple[CandidateScore, ...] = ()) -> None:
        self._records.append(
            RungRecord(
                artifact=self._trial.item.file, rung=rung, state="skipped", recipe=None, sqnr_db=None, reason=reason,
                candidates=candidates,
            )
        )  # fmt: skip

    def _climbed(self, attempt: Attempt) -> Climbed:
        hurried = any(item.state == "skipped" and item.reason == _TIME_UP for item in self._records)
        return Climbed(attempt, tuple(self._records), hurried)


def _nearest(scores: Sequence[CandidateScore]) -> CandidateScore:
    """The first of the candidates that are equally near."""
    most = max(item.sqnr_db for item in scores if item.sqnr_db is not None)
    return next(item for item in scores if item.sqnr_db is not None and item.sqnr_db >= most - TIE_DB)
