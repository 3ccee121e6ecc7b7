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
    """A quantity that a rule can name."""

    of: Callable[[Point], float | None]
    units: dict[str, float]
    """Unit -> factor to the quantity's own unit; the empty unit is the default."""
    scale: str
    """The unit in words, for messages."""


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
    """A condition on a point."""

    text: str
    name: str
    sign: str
    value: float

    def holds(self, point: Point) -> bool:
        """Whether a point meets it; a value that was not measured does not."""
        value = QUANTITIES[self.name].of(point)
        return value is not None and _COMPARED[self.sign](value, self.value)


@dataclass(frozen=True)
class Rule:
    """Conditions, and the quantity to minimize or maximize among the points that meet them."""

    text: str
    conditions: tuple[Condition, ...]
    aim: str
    """Name of that quantity."""
    largest: bool

    def pick(self, points: Sequence[Point]) -> int:
        """Index of the best point: of equal ones the more accurate, then the smaller, then the first.

        Raises:
            GateError: no point meets all conditions.
        """
        fit = [index for index, point in enumerate(points) if not point.failure and self._holds(point)]
        if not fit:
            raise GateError(f'no point of the sweep meets "{self.text}"', hint=self._nearest(points))

        def order(index: int) -> tuple[float, ...]:
            point = points[index]
            value = QUANTITIES[self.aim].of(point)
            assert value is not None  # checked by _holds
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
    """Parse a rule.

    Args:
        text: conditions and one aim, separated by commas.
        metric: of the project; for a known name, conditions on quantities that it cannot measure are refused.

    Raises:
        UsageError: the text is not a rule.
    """
    conditions: list[Condition] = []
    aims: list[tuple[str, bool]] = []
    for part in (item.strip() for item in text.split(",")):
        if match := _AIM.fullmatch(part):
            aims.append((_known(match["name"], text, metric), match["way"] == "max"))
        elif match := _CONDITION.fullmatch(part):
            conditions.append(_condition(match, part, text, metric))
        else:
            raise _wrong(text, f'"{part}" is neither a condition nor an aim')
    if len(aims) != 1:
        raise _wrong(text, "no aim: add `min QUANTITY` or `max QUANTITY`" if not aims else "more than one aim")
    return Rule(text, tuple(conditions), *aims[0])


def _condition(match: re.Match[str], part: str, text: str, metric: str) -> Condition:
    name = _known(match["name"], text, metric)
    units = QUANTITIES[name].units
    if match["unit"] not in units:
        raise _wrong(text, f'"{part}": {name} is in {QUANTITIES[name].scale}')
    try:
        value = float(match["value"]) * units[match["unit"]]
    except ValueError:
        raise _wrong(text, f'"{part}": {match["value"]} is not a number') from None
    share = name == "agreement" or (name == "accuracy" and metric in ("auto", "top1", "agreement"))
    if share and not 0 <= value <= 1:
        raise _wrong(text, f'"{part}": {name} is a share from 0 to 1: {value / 100:g}, or {value:g}%')
    return Condition(part, name, match["sign"], value)


def _known(name: str, text: str, metric: str) -> str:
    if name not in QUANTITIES:
        raise _wrong(text, f'no quantity is called "{name}"', suggest(name, QUANTITIES))
    if metric == "sqnr" and name in ("accuracy", "drop"):
        raise _wrong(text, f"{name} is not measured: the metric is sqnr", "sqnr>=30, min latency")
    return name


def _wrong(text: str, what: str, hint: str = "") -> UsageError:
    known = "; ".join(f"{name} ({item.scale})" for name, item in QUANTITIES.items())
    return UsageError(what, where=f'--pick "{text}"', hint=hint or f"for example: {EXAMPLE}\n  known: {known}")
