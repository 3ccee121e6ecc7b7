"""Climbing the ladder for one artifact: recipes are tried, cheapest first, until its gates are met."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgec.errors import EdgecError, LockError, StorageError, UnsupportedError, outside_the_model
from edgec.ladder.choose import nearest, worth_keeping
from edgec.ladder.float_layers import Ranking, most_trials, rank_layers
from edgec.ladder.steps import Steps
from edgec.ladder.trial import Attempt, Trial
from edgec.lock.file import LockedArtifact
from edgec.plan.rungs import FALLBACK, LOCKED, Rung, candidates
from edgec.quant.recipe import Recipe
from edgec.verify.gates import gate_line
from edgec.verify.records import CandidateScore, RungRecord

DOUBTFUL_DB = 10.0
"""Below this SQNR an attempt is so far off that float32 may be wrong as well, which no recipe mends."""

_TIME_UP = "the time budget is used up: --time-budget SECONDS gives more (inf: no limit)"


@dataclass(frozen=True)
class Climbed:
    """The artifact that was kept, and every rung on the way."""

    attempt: Attempt
    rungs: tuple[RungRecord, ...]
    hurried: bool = False
    """Whether rungs or candidates were left out for want of time: another run may find better."""


class Climb:
    """One artifact's way up.

    Args:
        trial: makes, runs and judges artifacts.
        deadline: `time.monotonic` after which no further rung begins.
        bound: the locked recipe must meet the gates; nothing else is tried.
    """

    def __init__(self, trial: Trial, deadline: float = math.inf, *, bound: bool = False) -> None:
        self._trial, self._maker = trial, trial.maker
        self._deadline = deadline
        self._bound = bound
        self._attempts: list[Attempt] = []
        self._records: list[RungRecord] = []
        self._scores: dict[Recipe, CandidateScore] = {}
        self._hurried = False

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
            if locked and (climbed := self._locked(locked)):
                return climbed
            if not self._attempts:
                self._maker.lower(first)  # else each candidate fails in turn, after its float corrections
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
        best, stopped, hopeless = first, "", False
        for rung in ladder:
            if self._attempts and self._late():
                stopped, self._hurried = stopped or _TIME_UP, True
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
                f"no rung of the accuracy ladder can be tried ({reasons})", where=self._maker.item.file
            )
        reason = stopped or "no rung of the accuracy ladder met the gates"
        if not hopeless and (fallback := self._fallback(reason)):
            return fallback
        return self._climbed(self._best())

    def _best(self) -> Attempt:
        """The attempt that is kept though it misses gates; else the nearest, which is refused."""
        kept = [item for item in self._attempts if not item.refused]
        while kept:
            attempt = worth_keeping(kept)
            if not (whole := self._trial.complete(attempt)).refused:
                return whole
            kept.remove(attempt)
        return self._trial.complete(max(self._attempts, key=lambda item: item.worst_sqnr))

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
        scored: dict[Recipe, CandidateScore] = {}
        best = best.model_copy(update=rung.base)
        if reasons := self._maker.reasons_against(best):
            self._skip(rung.name, "; ".join(reasons))
            return None
        for variations in rung.stages:
            scores = self._scores_of(candidates(variations, best))
            scored |= {item.recipe: item for item in scores}
            usable = [item for item in scores if item.sqnr_db is not None]
            if not usable:
                break  # what keeps all of them from being made is in what they share: the attempt reports it
            best = nearest(usable).recipe
        records = tuple(item.model_copy(update={"chosen": item.recipe == best}) for item in scored.values())
        if any(item.recipe == best for item in self._attempts):
            self._skip(rung.name, "none of its recipes is nearer to the float model on calibration samples", records)
            return None
        return self._attempt(rung.name, best, records)

    def _scores_of(self, recipes: Sequence[Recipe]) -> list[CandidateScore]:
        """Scores of the recipes, up to the one at which the time is up."""
        scores: list[CandidateScore] = []
        for recipe in recipes:
            if scores and self._late():
                self._hurried = True
                break
            scores.append(self._score(recipe))
        return scores

    def _late(self) -> bool:
        return time.monotonic() > self._deadline

    def _score(self, recipe: Recipe) -> CandidateScore:
        if recipe not in self._scores:
            self._scores[recipe] = self._trial.score(recipe)
        return self._scores[recipe]

    def _mixed(self, best: Recipe) -> Attempt | None:
        """The fewest of the noisiest layers in float with which the gates are met."""
        # each variant would be rounded adaptively anew, for layers that may stay in float
        best = best.model_copy(update={"round_adaptively": False})
        layers = len(self._maker.layers(best)) - len(best.float_layers)
        limit = layers // 2
        if limit < 1:
            self._skip("mixed-precision", "too few layers to leave some of them in float")
            return None
        steps = Steps(lambda step: self._maker.progress(f"float layers: {step}"), most_trials(layers), at_most=True)
        ranking = rank_layers(self._trial, best, steps)
        met: Attempt | None = None
        last: Attempt | None = None
        low, high = 0, limit + 1  # `low` layers miss the gates; `high` meet them, or are too many
        count = self._first_guess(ranking, limit)
        while low + 1 < high:
            if self._late():
                self._hurried = True
                break
            recipe = best.model_copy(
                update={"float_layers": tuple(sorted({*best.float_layers, *ranking.order[:count]}))}
            )
            try:
                with steps.next(f"{count} layers in float"):
                    last = self._attempt("mixed-precision", recipe)
            except EdgecError:
                if met is None:
                    raise
                break  # fewer layers could not be tried; these are enough
            if last.missed:
                if not all(gate.quality for gate in last.missed):
                    break
                low = count
            else:
                met, high = last, count
            count = (low + high) // 2
        if last is None:
            self._skip("mixed-precision", _TIME_UP)
        return met or last

    def _first_guess(self, ranking: Ranking, limit: int) -> int:
        """With how many layers in float the gates may be met: from the SQNR that they ask for, else with one."""
        missed = self._attempts[-1].missed if self._attempts else ()
        wanted = max((gate.limit for gate in missed if gate.gate == "min_sqnr_db"), default=-math.inf)
        return next((count for count in range(1, limit) if ranking.expected_db(count) >= wanted), limit)

    def _attempt(self, rung: str, recipe: Recipe, candidates: tuple[CandidateScore, ...] = ()) -> Attempt:
        attempt = self._trial.attempt(recipe)
        self._attempts.append(attempt)
        self._record(rung, attempt, candidates)
        self._report_missed(rung, attempt)
        return attempt

    def _report_missed(self, rung: str, attempt: Attempt) -> None:
        """Report how far the search is from the gate that is missed most: the user may want to stop it."""
        missed = [gate for gate in attempt.missed if gate.quality and gate.margin is not None]
        if not missed:
            return
        worst = min(missed, key=lambda gate: gate.margin or 0.0)
        same = [gate for one in self._attempts for gate in one.gates if gate.gate == worst.gate]
        margins = [gate for gate in same if gate.margin is not None and gate.runtime == worst.runtime]
        best = max(margins, key=lambda gate: gate.margin or 0.0)
        tried = f"after {len(self._attempts)} attempt{'s' if len(self._attempts) > 1 else ''}"
        self._maker.progress(f"{rung}: {worst.gate} {worst.limit:g} is missed, best so far {best.value:.4g} {tried}")

    def _fallback(self, reason: str) -> Climbed | None:
        precision = self._maker.target.quantize.fallback
        if precision is None:
            return None
        attempt = self._trial.attempt(Recipe(), precision)
        self._attempts.append(attempt)
        self._record(FALLBACK, attempt, reason=f"{precision}: {reason}")
        return self._climbed(self._trial.complete(attempt))

    def _record(
        self, rung: str, attempt: Attempt, candidates: tuple[CandidateScore, ...] = (), reason: str = ""
    ) -> None:
        missed = (f"{gate.runtime}: {gate_line(gate)}" for gate in attempt.missed)
        lines = (reason, *missed, *(f"{item.subject}: {item.state}" for item in attempt.left_out))
        self._records.append(
            RungRecord(
                artifact=attempt.artifact.file,
                rung=rung,
                state="failed" if attempt.refused else "short" if attempt.missed else "met",
                recipe=attempt.recipe,
                sqnr_db=attempt.worst_sqnr,
                reason="; ".join(filter(None, lines)),
                candidates=candidates,
            )
        )

    def _skip(self, rung: str, reason: str, candidates: tuple[CandidateScore, ...] = ()) -> None:
        self._records.append(
            RungRecord(
                artifact=self._maker.item.file, rung=rung, state="skipped", recipe=None, sqnr_db=None, reason=reason,
                candidates=candidates,
            )
        )  # fmt: skip

    def _climbed(self, attempt: Attempt) -> Climbed:
        return Climbed(attempt, tuple(self._records), self._hurried)
