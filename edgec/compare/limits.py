"""What ``--fail-on`` says: by how much each quantity may become worse."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from edgec.errors import UsageError
from edgec.frozen import Frozen
from edgec.toml_source import suggest

Quantity = Literal["accuracy", "agreement", "size", "latency", "memory"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

UNITS: Mapping[Quantity, tuple[str, ...]] = {
    "accuracy": ("points", "dB"),
    "agreement": ("points",),
    "size": ("KiB",),
    "latency": ("ms",),
    "memory": ("MB",),
}
"""Units that an absolute limit may name; without one it is in the quantity's own (the metric's, for accuracy)."""

_LIMIT = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>%|[A-Za-z]*)\Z")
_EXAMPLE = "--fail-on accuracy=0.5,latency=10%,size=5%"


class Limit(Frozen):
    """How much worse one quantity may be."""

    quantity: Quantity
    amount: float
    """Not negative; in `unit`, or in percent of the old value."""
    unit: str = ""
    """``%``, a unit of `UNITS`, or empty: the quantity's own."""

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit if self.unit == '%' else f' {self.unit}'.rstrip()}"


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """The limits of all ``--fail-on`` options.

    Args:
        texts: each ``QUANTITY=NUMBER[UNIT|%]``, several with commas between them.

    Raises:
        UsageError: an unknown quantity, one that stands twice, or no number that a limit can be.
    """
    limits: dict[Quantity, Limit] = {}
    for text in texts:
        for part in text.split(","):
            limit = _parse(part.strip())
            if limit.quantity in limits:
                raise UsageError(f"--fail-on: {limit.quantity} stands twice", hint="state each quantity once")
            limits[limit.quantity] = limit
    return tuple(limits.values())


def _parse(text: str) -> Limit:
    name, equals, value = (part.strip() for part in text.partition("="))
    quantity = next((item for item in QUANTITIES if item == name), None)
    if quantity is None:
        hint = suggest(name, QUANTITIES) or f"quantities: {', '.join(QUANTITIES)}; for example: {_EXAMPLE}"
        raise UsageError(f'--fail-on: nothing that is compared is called "{name}"', hint=hint)
    match = _LIMIT.match(value) if equals else None
    if match is None or not math.isfinite(float(match["number"])):
        raise UsageError(f'--fail-on: {name}: "{value}" is no limit', hint=f"a number, or a percentage: {_EXAMPLE}")
    unit = match["unit"]
    if unit not in ("", "%", *UNITS[quantity]):
        units = " or ".join(UNITS[quantity])
        raise UsageError(f'--fail-on: {name}: "{unit}" is no unit of it', hint=f"write {units} or %, or none")
    return Limit(quantity=quantity, amount=float(match["number"]), unit=unit)
