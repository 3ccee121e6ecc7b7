"""The rule that picks a point: ``accuracy>=0.90, size<=100, min latency``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgec.errors import GateError, UsageError
from edgec.sweep.records import Point
from edgec.toml_source import suggest

EXAMPLE = "accuracy>=0.90, size<=100, min latency"


@dataclass(frozen=True)
class Quantity:
    """Something that points have."""

    of: Callable[[Point], float | None]
    units: dict[str, float]
    """Unit -> factor to the quantity's own; the empty one is the default."""
    told: str


def _pace(name: str) -> Callable[[Point], float | None]:
    return lambda point: None if point.pace is None else float(getattr(point.pace, name))


QUANTITIES: dict[str, Quantity] = {
    "accuracy": Quantity(
        lambda point: point.accuracy, {"": 1, "%": 0.01}, "a share (0.90 or 90%), or your own metric's"
    ),
    "drop": Quantity(
        lambda point: None if point.metric is None else point.metric.drop, {"": 1}, "points, or your own metric's scale"
    ),
    "agreement": Quantity(lambda point: point.agreement, {"": 1, "%": 0.01}, "share of float's predictions"),
    "sqnr": Quantity(lambda point: point.sqnr_db, {"": 1, "dB": 1}, "dB"),
    "size": Quantity(lambda point: point.size_kib, {"": 1, "KiB": 1, "MiB": 1024}, "KiB"),
    "latency": Quantity(_pace("steady_ms"), {"": 1, "ms": 1}, "ms on this machine"),
    "ratio": Quantity(_pace("ratio"), {"": 1}, "latency over the unpruned float model's"),
    "memory": Quantity(lambda point: point.memory_mb, {"": 1, "MB": 1}, "MB of a process that runs it"),
}
SHARES = ("accuracy", "agreement")
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt
}  # fmt: skip
_CONDITION = re.compile(
    r"(?P<name>[\w-]+)\s*(?P<sign>>=|<=|>|<)\s*(?P<value>[-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(?P<unit>\S*)"
)
_AIM = re.compile(r"(?P<way>min|max)\s+(?P<name>\S+)")


@dataclass(frozen=True)
class Condition:
    """What a point has to hold."""

    text: str
    name: str
    sign: str
    value: float

    def holds(self, point: Point) -> bool:
        """Whether it does; what was not measured holds nothing."""
        found = QUANTITIES[self.name].of(point)
        return found is not None and _COMPARED[self.sign](found, self.value)


@dataclass(frozen=True)
class Rule:
    """Conditions, and what is best among the points that hold them."""

    text: str
    conditions: tuple[Condition, ...]
    aim: str
    """Name of the quantity to be small or large."""
    largest: bool

    def pick(self, points: Sequence[Point]) -> int:
        """Index of the point that is picked: of equal ones the more accurate, then the smaller, then the first.

        Raises:
            GateError: none holds all conditions.
        """
        fit = [index for index, point in enumerate(points) if not point.failure and self._holds(point)]
        if not fit:
            raise GateError(f'no point of the sweep holds "{self.text}"', hint=self._nearest(points))

        def order(index: int) -> tuple[float, ...]:
            point = points[index]
            value = QUANTITIES[self.aim].of(point)
            assert value is not None  # _holds looks
            quality = -math.inf if point.quality is None else point.quality
            return (-value if self.largest else value, -quality, point.size_bytes, index)

        return min(fit, key=order)

    def _holds(self, point: Point) -> bool:
        return QUANTITIES[self.aim].of(point) is not None and all(item.holds(point) for item in self.conditions)

    def _nearest(self, points: Sequence[Point]) -> str:
        lines = []
        for item in self.conditions:
            of = QUANTITIES[item.name].of
            known = [value for point in points if not point.failure and (value := of(point)) is not None]
            best = max if item.sign.startswith(">") else min
            lines.append(f"{item.text}: the best is {best(known):.4g}" if known else f"{item.name}: not measured")
        if not any(QUANTITIES[self.aim].of(point) is not None for point in points):
            lines.append(f"{self.aim}: not measured")
        return "; ".join(lines)


def parse_rule(text: str, metric: str = "auto") -> Rule:
    """The rule that `text` says.

    Args:
        text: conditions and one aim, separated by commas.
        metric: that the project asks for; known names tell what cannot be measured.

    Raises:
        UsageError: it is no rule.
    """
    conditions: list[Condition] = []
    aims: list[tuple[str, bool]] = []
    for part in (item.strip() for item in text.split(",")):
        if found := _AIM.fullmatch(part):
            aims.append((_known(found["name"], text, metric), found["way"] == "max"))
        elif found := _CONDITION.fullmatch(part):
            conditions.append(_condition(found, part, text, metric))
        else:
            raise _wrong(text, f'"{part}" is neither a condition nor an aim')
    if len(aims) != 1:
        raise _wrong(text, "no aim: what should be small or large?" if not aims else "more than one aim")
    return Rule(text, tuple(conditions), *aims[0])


def _condition(found: re.Match[str], part: str, text: str, metric: str) -> Condition:
    name = _known(found["name"], text, metric)
    units = QUANTITIES[name].units
    if found["unit"] not in units:
        raise _wrong(text, f'"{part}": {name} is in {QUANTITIES[name].told}')
    try:
        value = float(found["value"]) * units[found["unit"]]
    except ValueError:
        raise _wrong(text, f'"{part}": {found["value"]} is no number') from None
    share = name == "agreement" or (name == "accuracy" and metric in ("auto", "top1", "agreement"))
    if share and not 0 <= value <= 1:
        raise _wrong(text, f'"{part}": {name} is a share from 0 to 1: {value / 100:g}, or {value:g}%')
    return Condition(part, name, found["sign"], value)


def _known(name: str, text: str, metric: str) -> str:
    if name not in QUANTITIES:
        raise _wrong(text, f'no quantity is called "{name}"', suggest(name, QUANTITIES))
    if metric == "sqnr" and name in ("accuracy", "drop"):
        raise _wrong(text, f"{name} is not measured: the metric is sqnr", "sqnr>=30, min latency")
    return name


def _wrong(text: str, what: str, hint: str = "") -> UsageError:
    known = "; ".join(f"{name} ({item.told})" for name, item in QUANTITIES.items())
    return UsageError(what, where=f'--pick "{text}"', hint=hint or f"for example: {EXAMPLE}\n  known: {known}")
