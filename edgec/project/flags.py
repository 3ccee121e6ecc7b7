"""Command-line flags of the project file's keys, made from the records: declared once, used for both."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from edgec.errors import UsageError
from edgec.project.spec import InputSpec, Project
from edgec.toml_source import record_in

Kind = Literal["text", "integer", "number", "switch", "numbers", "texts", "arguments", "inputs"]

PATH_KEYS = frozenset(
    {
        ("model", "path"),
        ("model", "weights"),
        ("calibration", "data"),
        ("calibration", "more"),
        ("evaluation", "data"),
        ("evaluation", "metric"),
        ("train", "data"),
        ("train", "loss"),
        ("train", "function"),
    }
)
"""Keys whose values are paths (or ``file.py:function``): relative to edgec.toml there, to the cwd as flags."""
NAME_OR_PATH_KEYS = frozenset({("evaluation", "metric"), ("train", "loss")})
"""Of these, the ones that may also be the name of something built in."""


@dataclass(frozen=True)
class Flag:
    """One project key as a flag."""

    key: tuple[str, str]
    """Table and key in edgec.toml."""
    flag: str
    """``--max-drop``; ``MODEL`` is the positional argument."""
    help: str
    kind: Kind

    @property
    def form(self) -> str | None:
        """Syntax of its value, where that is not plain."""
        forms: dict[Kind, str] = {"numbers": "N[,N...]", "arguments": "NAME=VALUE", "inputs": "NAME:1x3x8x8[:DTYPE]"}
        return forms.get(self.kind)

    @property
    def repeated(self) -> bool:
        """Whether the flag may stand several times."""
        return self.kind in ("texts", "arguments", "inputs")

    def parse(self, value: Any) -> Any:
        """The value of the key, from what the command line gave.

        Raises:
            UsageError: the text has not the flag's form.
        """
        try:
            match self.kind:
                case "numbers":
                    return [float(part) for part in str(value).split(",")]
                case "arguments":
                    return dict(_argument(text) for text in value)
                case "inputs":
                    return [_input(text) for text in value]
                case "texts":
                    return list(value)
        except ValueError as exc:
            raise UsageError(str(exc), where=self.flag, hint=f"{self.flag}: {self.help}") from None
        return value


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f'"{text}" is not NAME=VALUE')
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _input(text: str) -> dict[str, Any]:
    known = typing.get_args(InputSpec.model_fields["dtype"].annotation)
    rest, _, last = text.rpartition(":")
    dtype = {"dtype": last} if last in known and ":" in rest else {}
    # names may hold colons themselves, as TensorFlow's do: input:0
    name, colon, shape = (rest if dtype else text).rpartition(":")
    sizes = shape.split("x") if shape else []  # of a scalar there are none
    if not colon or not name or not all(size.isdigit() for size in sizes):
        raise ValueError(f'"{text}" is not NAME:1x3x224x224[:DTYPE], with DTYPE one of {", ".join(known)}')
    return {"name": name, "shape": [int(size) for size in sizes], **dtype}


def _kind(annotation: Any) -> Kind:
    arguments = [item for item in typing.get_args(annotation) if item is not type(None)]
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return _kind(arguments[0])
    if typing.get_origin(annotation) is dict:
        return "arguments"
    if typing.get_origin(annotation) is tuple:
        return {float: "numbers", InputSpec: "inputs"}.get(arguments[0], "texts")  # type: ignore[return-value]
    return {bool: "switch", int: "integer", float: "number"}.get(annotation, "text")  # type: ignore[return-value]


def flags() -> Iterator[Flag]:
    """All flags, in the order of the tables and keys of the project file."""
    for table, outer in Project.model_fields.items():
        record = record_in(outer.annotation)
        for key, field in record.model_fields.items() if record else ():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "flag" in extra:
                yield Flag((table, key), str(extra["flag"]), field.description or "", _kind(field.annotation))
