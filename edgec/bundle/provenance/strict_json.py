"""A strict JSON parser: keys are unique in an object, and numbers are finite."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_object(content: bytes) -> dict[str, Any]:
    """Parse a JSON object (RFC 8259) in UTF-8.

    Raises:
        ValueError: `content` is not one, or parsers may interpret it differently.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has a key twice")
    return values


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
