"""TOML files as typed records, with errors that name file, line and key.

`tomllib` gives values without positions, so a small scanner indexes where each key stands; pydantic's
errors are then told in the user's terms: *unknown key* (with a suggestion), *wrong type*, *bad value*.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgec.errors import EdgecError

if TYPE_CHECKING:
    from pydantic import BaseModel

T = TypeVar("T", bound="BaseModel")
KeyPath = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r'^\s*((?:"[^"]*"|\'[^\']*\'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|\'[^\']*\'|[\w-]+))*)\s*=')


@dataclass(frozen=True)
class TomlSource:
    """A parsed TOML file: its values and the line of each key (1-based)."""

    path: Path
    values: dict[str, Any]
    lines: Mapping[KeyPath, int]

    def place_of(self, key: KeyPath) -> str:
        """``file:line`` of `key` or of what encloses it; the file alone when nothing of it is written there."""
        line = self.line_of(key)
        return f"{self.path}:{line}" if line else str(self.path)

    def line_of(self, key: KeyPath) -> int | None:
        """Line of `key`, or of the nearest enclosing table that stands in this file."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return self.lines[key[:length]]
        return None


def read_toml(path: Path, error: type[EdgecError]) -> TomlSource:
    """Read and parse one TOML file; raise `error` with file and line when that fails."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("no such file", where=str(path)) from None
    except UnicodeDecodeError as exc:
        raise error(f"not UTF-8 text (byte {exc.start})", where=str(path)) from None
    except OSError as exc:
        raise error(f"cannot be read: {exc.strerror}", where=str(path)) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise error(f"not valid TOML: {exc}", where=str(path)) from None
    return TomlSource(path, values, _index_lines(text))


def _index_lines(text: str) -> dict[KeyPath, int]:
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            path = _split_key(header[2])
            if header[1] == "[[":
                counts[path] = counts.get(path, -1) + 1
                table = (*path, counts[path])
            else:
                table = path
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            full: KeyPath = (*table, *_split_key(key[1]))
            for length in range(len(table) + 1, len(full) + 1):
                lines.setdefault(full[:length], number)
    return lines


def _split_key(text: str) -> KeyPath:
    return tuple(part.strip().strip("\"'") for part in re.findall(r'"[^"]*"|\'[^\']*\'|[\w-]+', text))


def suggest(name: str, known: Iterable[str]) -> str:
    """``did you mean "x"?`` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else ""


def validate(record: type[T], source: TomlSource, values: Mapping[str, Any], error: type[EdgecError]) -> T:
    """`values` (out of `source`) as a `record`; every problem of the file in one `error`."""
    from pydantic import ValidationError  # only validation needs it: listing targets stays fast

    try:
        return record.model_validate_json(
            json.dumps(values, default=str)
        )  # JSON mode: strict, yet arrays become tuples
    except ValidationError as exc:
        raise error("\n".join(_explain(record, source, problem) for problem in exc.errors())) from None


def _explain(record: type[BaseModel], source: TomlSource, problem: Any) -> str:
    location: KeyPath = tuple(part for part in problem["loc"] if not str(part).startswith("function-"))
    place = source.place_of(location)
    key = ".".join(str(part) for part in location)
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = fields_at(record, location[:-1])
        hint = suggest(str(location[-1]), known)
        return f"{place}: {key}: unknown key; " + (hint or f"known keys: {', '.join(sorted(known))}")
    if kind == "missing":
        return f"{place}: {key}: missing; it has no default"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind in ("literal_error", "enum"):
        expected = problem["ctx"]["expected"]
        hint = suggest(str(problem["input"]), re.findall(r"'([^']*)'", expected))
        return f"{place}: {key}: bad value {problem['input']!r}, expected {expected}" + (f"; {hint}" if hint else "")
    if kind.endswith(("_type", "_parsing")):
        return f"{place}: {key}: wrong type: {message} (got {problem['input']!r})"
    return f"{place}: {key}: {message}" if key else f"{place}: {message}"


def fields_at(record: type[BaseModel], location: KeyPath) -> tuple[str, ...]:
    """Names of the keys that `record` knows at `location`."""
    current: type[BaseModel] | None = record
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = _record_in(field.annotation) if field else None
    return tuple(current.model_fields) if current else ()


def _record_in(annotation: Any) -> type[BaseModel] | None:
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, list, dict, types.UnionType, typing.Union, typing.Annotated):
        for argument in typing.get_args(annotation):
            if found := _record_in(argument):
                return found
    return None
