"""The base of all typed configuration and records: frozen, strict about keys, with a canonical digest."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgec.errors import printable


class Frozen(BaseModel):
    """An immutable record: unknown keys are refused, equal content has an equal digest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="strings")

    def plain(self) -> Any:
        """The record as values that every JSON reader takes: infinities are text."""
        return json.loads(self.model_dump_json())

    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON of this record."""
        return digest_json(self.model_dump(mode="json"))


def first_problem(exc: ValidationError) -> str:
    """``key: message`` of the first thing that is wrong with a record, where others have a say in its keys."""
    first = exc.errors(include_input=False)[0]
    return printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def as_text(value: Any) -> Any:
    """A JSON value of a file that others wrote, all its strings and keys `printable`, whatever is done with them."""
    if isinstance(value, dict):
        return {printable(key): as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_text(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no white space: the same value gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest_json(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
