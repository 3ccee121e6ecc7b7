"""Which ops a toolchain cannot take: the smallest set that must stay out before its own way succeeds.

A quantizer, converter or runtime that fails on a model seldom names the op that it failed on. It takes the rest of the
model all the same once that op is left out, so the op is found by trying: with half of the candidates, and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgec.errors import EdgecError, StorageError

T = TypeVar("T")

_WORD = re.compile(r"[^\s\"'(),:;]+")
MAX_TRIES = 64
"""Attempts of one search. One op takes ``log2(candidates)`` of them, whatever else is alike goes with it."""


@dataclass(frozen=True)
class Exclusion(Generic[T]):
    """What a search found.

    Attributes:
        result: of the attempt without the excluded names.
        reasons: excluded name -> what the toolchain said when it was the only one of them that was not left out.
        tries: attempts made.
    """

    result: T
    reasons: dict[str, str]
    tries: int


def smallest_excluded(
    names: Sequence[str],
    attempt: Callable[[frozenset[str]], T],
    *,
    signature: Callable[[str], Hashable] = str,
    max_tries: int = MAX_TRIES,
) -> Exclusion[T]:
    """Find what must be left out of `names` for `attempt` to succeed, and its result then.

    No excluded name (without its likes) can be taken back, if leaving out more never makes an attempt fail that
    succeeded with less. If it does, the result is still one that succeeded. Equal arguments give equal results.

    A name that the error names is tried first. Names of one signature (op, attributes, ranks) are expected to fail
    alike: they are left out with the first one that fails, unless one of them has been seen to work; when all else
    works, they are taken back if that works too.

    Args:
        names: candidates, in the order they are taken in (that of the graph).
        attempt: the toolchain's way, without the given names. It fails by raising an `EdgecError`.
        signature: of a name.
        max_tries: attempts after which whatever is not known to work stays out.

    Raises:
        EdgecError: the attempt fails even without all names.
        StorageError: it cannot write; nothing is searched then.
    """
    rest = list(dict.fromkeys(names))
    search = _Search(attempt, max_tries)
    if search.works(()):
        return Exclusion(search.result, {}, search.tries)
    reason = search.failure
    if not rest or not search.works(rest):
        raise search.failure from reason

    reasons: dict[str, str] = {}
    doubtful: list[list[str]] = []
    working: set[Hashable] = set()

    def with_likes(names: list[str], after: list[str]) -> list[str]:
        kinds = {signature(name) for name in names} - working
        return [*names, *(name for name in after if signature(name) in kinds and name not in names)]

    while rest:  # it works without `reasons` and all of `rest`, and fails with all of `rest` for `reason`
        if (named := _named(rest, reason.what)) and not search.exhausted:
            group = with_likes(named, rest)
            works = search.works((*reasons, *group))
            if works or not _named(named, search.failure.what):
                doubtful += [group[len(named) :], named]
                reasons |= dict.fromkeys(group, reason.what)
                rest = [name for name in rest if name not in reasons]
                if works:
                    break
                reason = search.failure
                continue
        low, high = 0, len(rest)
        while high - low > 1 and not search.exhausted:
            middle = (low + high) // 2
            if search.works((*reasons, *rest[middle:])):
                low = middle
            else:
                high, reason = middle, search.failure
        if high - low > 1:
            given_up = f"not tried one by one, after {search.tries} attempts: {reason.what}"
            reasons |= dict.fromkeys(rest[low:], given_up)
            break
        working.update(signature(name) for name in rest[:low])
        group = with_likes([rest[low]], rest[high:])
        doubtful.append(group[1:])
        reasons |= dict.fromkeys(group, reason.what)
        rest = [name for name in rest[high:] if name not in reasons]
        if rest and not search.exhausted:
            if search.works(reasons):
                break
            reason = search.failure
    for names in doubtful:
        fewer = {name: why for name, why in reasons.items() if name not in names}
        if names and not search.exhausted and search.works(fewer):
            reasons = fewer
    return Exclusion(search.result, reasons, search.tries)


def _named(names: Iterable[str], text: str) -> list[str]:
    """Those of `names` that a message names."""
    words = {*_WORD.findall(text)}
    return [name for name in names if name in words]


class _Search(Generic[T]):
    """Attempts, counted, with the result of the last one that worked and the error of the last one that did not."""

    result: T
    failure: EdgecError

    def __init__(self, attempt: Callable[[frozenset[str]], T], max_tries: int) -> None:
        self._attempt, self._max_tries = attempt, max_tries
        self.tries = 0

    @property
    def exhausted(self) -> bool:
        return self.tries >= self._max_tries

    def works(self, excluded: Iterable[str]) -> bool:
        self.tries += 1
        try:
            self.result = self._attempt(frozenset(excluded))
        except StorageError:  # a full disk is not the fault of an op
            raise
        except EdgecError as error:
            self.failure = error
            return False
        return True
