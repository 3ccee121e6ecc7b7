"""Limits of ``--fail-on``: by how much each quantity may become worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from edgec.verify import fail_on

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


Limit = fail_on.Limit[Quantity]
"""How much worse one quantity may be: in a unit of `UNITS`, or in percent of the old value."""


def parse_limits(texts: Sequence[str]) -> tuple[Limit, ...]:
    """The limits of all ``--fail-on`` options, see `edgec.verify.fail_on`.

    Raises:
        UsageError: an unknown quantity, a quantity that is stated twice, or a number that is not valid.
    """
    return fail_on.parse_fail_on(texts, UNITS, _EXAMPLE)
