"""``--fail-on QUANTITY=NUMBER[UNIT|%]``: limits of a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgec.errors import UsageError
from edgec.toml_source import suggest

Quantity = TypeVar("Quantity", bound=str)
_LIMIT = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>%|[A-Za-z]*)\Z")


@dataclass(frozen=True)
class Limit(Generic[Quantity]):
    """The largest value that one quantity may have, or by how much it may be worse."""

    quantity: Quantity
    amount: float
    """Not negative and finite."""
    unit: str = ""
    """``%``, one of the quantity's units, or empty: its own."""

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit if self.unit == '%' else f' {self.unit}'.rstrip()}"


def parse_fail_on(
    texts: Sequence[str], units: Mapping[Quantity, Sequence[str]], example: str
) -> tuple[Limit[Quantity], ...]:
    """The limits of all ``--fail-on`` options.

    Args:
        texts: each ``QUANTITY=NUMBER[UNIT|%]``, several with commas between them.
        units: the quantities, with the units of each besides ``%``.
        example: of the option, for messages.

    Raises:
        UsageError: an unknown quantity, a quantity that is stated twice, or a number that is not valid.
    """
    limits: dict[Quantity, Limit[Quantity]] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        limit = _parse(part, units, example)
        if limit.quantity in limits:
            raise UsageError(f"--fail-on: {limit.quantity} is stated twice", hint="state each quantity once")
        limits[limit.quantity] = limit
    return tuple(limits.values())


def _parse(text: str, units: Mapping[Quantity, Sequence[str]], example: str) -> Limit[Quantity]:
    name, equals, value = (part.strip() for part in text.partition("="))
    quantity = next((item for item in units if item == name), None)
    if quantity is None:
        hint = suggest(name, tuple(units)) or f"quantities: {', '.join(units)}; for example: {example}"
        raise UsageError(f'--fail-on: no quantity is called "{name}"', hint=hint)
    match = _LIMIT.match(value) if equals else None
    if match is None or not math.isfinite(float(match["number"])):
        raise UsageError(f'--fail-on: {name}: "{value}" is not a limit', hint=f"a number, or a percentage: {example}")
    unit = match["unit"]
    if unit not in ("", "%", *units[quantity]):
        known = " or ".join(units[quantity])
        raise UsageError(f'--fail-on: {name}: "{unit}" is not a unit of it', hint=f"write {known} or %, or none")
    return Limit(quantity, float(match["number"]), unit)
