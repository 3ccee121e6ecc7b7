"""Choosing among candidates before their gates, and among attempts that miss their goal."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.ladder.trial import Attempt
from edgec.verify.records import CandidateScore

TIE_DB = 0.2
"""Candidates within this of the best SQNR are equally near to the float model, as far as so few samples can show.

Of these the first, which is the cheapest, is taken. Agreement does not decide: of 64 samples it has an error of some
points, and calibration samples may be none that the model is sure of.
"""

WORTH_DB = 1.0
"""What a dearer attempt must be nearer to be kept, where neither meets its goal."""


def worth_keeping(attempts: Sequence[Attempt]) -> Attempt:
    """The one with fewest layers in float, and of these the first, of those about as good as the nearest."""
    least = max(item.worst_sqnr for item in attempts) - WORTH_DB
    return min((item for item in attempts if item.worst_sqnr >= least), key=lambda item: len(item.recipe.float_layers))


def nearest(scores: Sequence[CandidateScore]) -> CandidateScore:
    """The first of the candidates that are equally near."""
    most = max(item.sqnr_db for item in scores if item.sqnr_db is not None)
    return next(item for item in scores if item.sqnr_db is not None and item.sqnr_db >= most - TIE_DB)
