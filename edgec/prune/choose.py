"""Which channels go: the least important, in numbers that leave a multiple of the device's width."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NARROWEST = 8
"""A multiple is not halved below this."""


def fitting(multiple: int, channels: int) -> int:
    """The multiple that a layer of `channels` is held to: halved where not two of it fit, down to `NARROWEST`."""
    while multiple % 2 == 0 and multiple // 2 >= NARROWEST and 2 * multiple > channels:
        multiple //= 2
    return multiple


@dataclass(frozen=True)
class Scored:
    """The channels of one group of layers, and how much each matters."""

    root: str
    channels: int
    units: tuple[tuple[int, ...], ...]
    """Channels that go together, a partition of all."""
    scores: tuple[float, ...]
    """Of each unit: the mean of its channels."""

    @property
    def order(self) -> list[int]:
        """Units, the least important first; of equal ones, the first comes first."""
        return sorted(range(len(self.units)), key=lambda place: (self.scores[place], place))

    def cuts(self, round_to: int) -> list[int]:
        """How many units of `order` may go: those numbers that leave a multiple of `round_to` channels, and some."""
        left, chosen = self.channels, []
        for count, place in enumerate(self.order, start=1):
            left -= len(self.units[place])
            if left > 0 and left % round_to == 0:
                chosen.append(count)
        return chosen

    def first(self, count: int) -> tuple[int, ...]:
        """The channels of the `count` least important units."""
        return tuple(sorted(index for place in self.order[:count] for index in self.units[place]))


def choose(
    groups: Sequence[Scored], share: float, scope: str, round_to: int, whole: Mapping[str, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """The channels to remove of each group that loses any, by the name of its root.

    Args:
        groups: those that may lose channels.
        share: of the channels to remove, 0 to 1.
        scope: ``layer``: this share of each group; ``global``: of all together, wherever they matter least.
        round_to: what is left of a group is a multiple of it (of what is `fitting`), and at least one; a group smaller
            than that is left whole.
        whole: channels that a root had before earlier steps, of which ``layer`` takes its share.
    """
    if share <= 0:
        return {}
    counts = (_each if scope == "layer" else _together)(groups, share, round_to, whole or {})
    return {group.root: group.first(count) for group, count in zip(groups, counts, strict=True) if count}


def _each(groups: Sequence[Scored], share: float, round_to: int, whole: Mapping[str, int]) -> list[int]:
    counts = []
    for group in groups:
        total = whole.get(group.root, group.channels)
        multiple = fitting(round_to, total)
        wanted = max(math.floor(total * (1 - share) / multiple + 0.5), 1) * multiple
        cuts = group.cuts(multiple) if wanted < group.channels else []

        def distance(count: int, group: Scored = group, wanted: int = wanted) -> int:
            return abs(group.channels - len(group.first(count)) - wanted)

        counts.append(min(cuts, key=distance, default=0))
    return counts


def _together(groups: Sequence[Scored], share: float, round_to: int, whole: Mapping[str, int]) -> list[int]:
    """Blocks of channels from one possible cut to the next, the least important first, over all groups."""
    blocks: list[tuple[float, int, int, int]] = []
    for number, group in enumerate(groups):
        start, order = 0, group.order
        for cut in group.cuts(fitting(round_to, whole.get(group.root, group.channels))):
            sizes = [len(group.units[place]) for place in order[start:cut]]
            scores = [group.scores[place] for place in order[start:cut]]
            mean = sum(score * size for score, size in zip(scores, sizes, strict=True)) / sum(sizes)
            blocks.append((mean, number, cut, sum(sizes)))
            start = cut
    wanted = share * sum(group.channels for group in groups)
    counts = [0] * len(groups)
    removed = 0
    for _, number, cut, size in sorted(blocks):
        if abs(removed + size - wanted) >= abs(removed - wanted):
            break
        counts[number] = cut
        removed += size
    return counts
