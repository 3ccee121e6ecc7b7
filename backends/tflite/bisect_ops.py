"""The smallest set of operators that a quantizer has to leave out, found by trying."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Candidate:
    """An operator that may be quantized; those with one signature share their fate."""

    name: str
    signature: Hashable


@dataclass(frozen=True)
class LeftOut:
    """An operator that the quantizer does not take, and what it said."""

    candidate: Candidate
    reason: str


def leave_out(
    attempt: Callable[[Sequence[str]], Result], candidates: Sequence[Candidate]
) -> tuple[Result, tuple[LeftOut, ...]]:
    """Quantize as much as `attempt` takes.

    Args:
        attempt: quantizes all but the named operators; raises where it cannot.
        candidates: the operators, in execution order.

    Returns:
        The result, and what had to be left out.

    Raises:
        Exception: what `attempt` raised, where it fails with all of them left out.
    """
    out: list[LeftOut] = []
    while True:
        refused = {item.candidate.name for item in out}
        try:
            return attempt(sorted(refused)), tuple(out)
        except Exception as exc:
            rest = [item for item in candidates if item.name not in refused]
            if not rest:
                raise
            if not out:
                attempt(sorted(item.name for item in candidates))  # else no operator is at fault
            culprit, reason = _first_refused(attempt, rest, refused, str(exc))
            same = [item for item in rest if item.signature == culprit.signature]
            out += [LeftOut(item, reason) for item in same]


def _first_refused(
    attempt: Callable[[Sequence[str]], object], rest: Sequence[Candidate], refused: set[str], reason: str
) -> tuple[Candidate, str]:
    """The last operator of the shortest beginning of `rest` that fails: the beginnings are tried by halves."""
    names = [item.name for item in rest]
    works, fails = 0, len(rest)
    while fails - works > 1:
        middle = (works + fails) // 2
        try:
            attempt(sorted({*refused, *names[middle:]}))
        except Exception as exc:
            fails, reason = middle, str(exc)
        else:
            works = middle
    return rest[fails - 1], reason
