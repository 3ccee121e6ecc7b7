"""Limits of ``--fail-on``: by how much each quantity may become worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from edgec.frozen import Frozen
from edgec.verify.fail_on import parse_fail_on

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
    """The limits of all ``--fail-on`` options, see `edgec.verify.fail_on`.

    Raises:
        UsageError: an unknown quantity, a quantity that is stated twice, or a number that is not valid.
    """
    stated = parse_fail_on(texts, UNITS, _EXAMPLE)
    return tuple(Limit(quantity=item.quantity, amount=item.amount, unit=item.unit) for item in stated)
