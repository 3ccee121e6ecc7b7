"""``--fail-on QUANTITY=NUMBER[UNIT|%]``: limits that a command line states."""

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
class Stated(Generic[Quantity]):
    """One limit as it was written."""

    quantity: Quantity
    amount: float
    """Not negative and finite."""
    unit: str
    """``%``, one of the quantity's units, or empty."""


def parse_fail_on(
    texts: Sequence[str], units: Mapping[Quantity, Sequence[str]], example: str
) -> tuple[Stated[Quantity], ...]:
    """The limits of all ``--fail-on`` options.

    Args:
        texts: each ``QUANTITY=NUMBER[UNIT|%]``, several with commas between them.
        units: quantities that there are, with the units that each takes besides ``%``.
        example: of the option, for messages.

    Raises:
        UsageError: an unknown quantity, one that stands twice, or no number that a limit can be.
    """
    limits: dict[Quantity, Stated[Quantity]] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        limit = _parse(part, units, example)
        if limit.quantity in limits:
            raise UsageError(f"--fail-on: {limit.quantity} stands twice", hint="state each quantity once")
        limits[limit.quantity] = limit
    return tuple(limits.values())


def _parse(text: str, units: Mapping[Quantity, Sequence[str]], example: str) -> Stated[Quantity]:
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
    return Stated(quantity, float(match["number"]), unit)
