"""TOML files as typed records, with errors that name file, line and key.

`tomllib` gives values without positions, so a small scanner indexes where each key stands; pydantic's
errors are then reported in the user's terms: *unknown key* (with a suggestion), *wrong type*, *bad value*.
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
    """A parsed TOML file, or several that were merged: the values, and where each key stands."""

    path: Path
    values: dict[str, Any]
    places: Mapping[KeyPath, str]
    """``file:line`` (1-based) of each key that is written."""

    def place_of(self, key: KeyPath) -> str:
        """``file:line`` of `key` or of what encloses it; the file alone when nothing of it is written there."""
        enclosing = (key[:length] for length in range(len(key), 0, -1))
        return next((self.places[part] for part in enclosing if part in self.places), str(self.path))


@dataclass(frozen=True)
class TomlProblem:
    """One thing that is wrong with the values of a file."""

    key: KeyPath
    place: str
    """``file:line``."""
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


BYTE_ORDER_MARK = "\ufeff"
"""What some editors put before the first letter of a UTF-8 file."""


def read_toml(path: Path, error: type[EdgecError]) -> TomlSource:
    """Read and parse one TOML file; raise `error` with file and line when that fails."""
    text = read_toml_text(path, error)
    if text.startswith(BYTE_ORDER_MARK):
        raise marked(path, error)
    return parse_toml(path, text, error)


def read_toml_text(path: Path, error: type[EdgecError]) -> str:
    """The text of a file; raise `error` when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("no such file", where=str(path)) from None
    except UnicodeDecodeError as exc:
        hint = 'save it as "UTF-8" (without BOM)'
        raise error(f"not UTF-8 text (byte {exc.start})", where=str(path), hint=hint) from None
    except OSError as exc:
        raise error(f"cannot be read: {exc.strerror}", where=str(path)) from None


def marked(path: Path, error: type[EdgecError]) -> EdgecError:
    """The `error` for a file that begins with a byte order mark."""
    return error(
        "the file begins with a UTF-8 byte order mark (BOM), which TOML does not have",
        where=f"{path}:1",
        hint='save it as "UTF-8", not "UTF-8 with BOM"; or: sed -i "1s/^\\xEF\\xBB\\xBF//" ' + path.name,
    )


def parse_toml(path: Path, text: str, error: type[EdgecError]) -> TomlSource:
    """Parse the text of a file; raise `error` with file and line when that fails."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise error(f"not valid TOML: {exc}", where=str(path)) from None
    return TomlSource(path, values, {key: f"{path}:{line}" for key, line in _index_lines(text).items()})


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
    valid, problems = validated(record, source, values)
    if valid is None:
        raise error("\n".join(map(str, problems))) from None
    return valid


def validated(
    record: type[T], source: TomlSource, values: Mapping[str, Any]
) -> tuple[T | None, tuple[TomlProblem, ...]]:
    """`values` (out of `source`) as a `record`, or None and every problem of the file."""
    from pydantic import ValidationError  # only validation needs it: listing targets stays fast

    try:
        # JSON mode: strict, yet arrays become tuples
        return record.model_validate_json(json.dumps(values, default=str)), ()
    except ValidationError as exc:
        return None, tuple(_explain(record, source, problem) for problem in exc.errors())


def _explain(record: type[BaseModel], source: TomlSource, problem: Any) -> TomlProblem:
    location: KeyPath = tuple(part for part in problem["loc"] if not str(part).startswith("function-"))
    return TomlProblem(location, source.place_of(location), _words(record, location, problem))


def _words(record: type[BaseModel], location: KeyPath, problem: Any) -> str:
    key = ".".join(str(part) for part in location)
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = fields_at(record, location[:-1])
        hint = suggest(str(location[-1]), known)
        return f"{key}: unknown key; " + (hint or f"known keys: {', '.join(sorted(known))}")
    if kind == "missing":
        return f"{key}: missing; it has no default"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if kind in ("literal_error", "enum"):
        expected = problem["ctx"]["expected"]
        hint = suggest(str(problem["input"]), re.findall(r"'([^']*)'", expected))
        return f"{key}: bad value {problem['input']!r}, expected {expected}" + (f"; {hint}" if hint else "")
    if kind.endswith(("_type", "_parsing")):
        return f"{key}: wrong type: {message} (got {problem['input']!r})"
    return f"{key}: {message}" if key else message


def fields_at(record: type[BaseModel], location: KeyPath) -> tuple[str, ...]:
    """Names of the keys that `record` knows at `location`."""
    current: type[BaseModel] | None = record
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(part)
        current = record_in(field.annotation) if field else None
    return tuple(current.model_fields) if current else ()


def record_in(annotation: Any) -> type[BaseModel] | None:
    """The first record in the type of a field."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (tuple, list, dict, types.UnionType, typing.Union, typing.Annotated):
        for argument in typing.get_args(annotation):
            if inner := record_in(argument):
                return inner
    return None
