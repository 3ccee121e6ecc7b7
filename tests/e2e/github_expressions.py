"""GitHub's expressions, as many as edgec's workflow uses; anything else is an error.

Follows "Evaluate expressions in workflows and actions" of GitHub's documentation: strings in single quotes, ``||`` and
``&&`` that give one of their operands, ``==`` and ``!=``, ``!``, and functions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*)|(?P<sign>\|\||&&|==|!=|[!(),]))")
_PART = re.compile(r"\$\{\{((?:(?!\}\}).)*)\}\}")
OPTIONAL = ("vars", "secrets")
"""Contexts whose missing entries are empty; of others, they are mistakes."""


class Expressions:
    """Evaluates and expands for one step or job.

    Args:
        contexts: what names stand for: ``github``, ``vars``, ``needs``...
        failed: whether something before failed, for ``success()`` and ``failure()``.
        workspace: where ``hashFiles`` looks.
    """

    def __init__(self, contexts: Mapping[str, Any], *, failed: bool, workspace: Path) -> None:
        self._contexts = contexts
        self._failed = failed
        self._workspace = workspace
        self._tokens: list[tuple[str, str]] = []

    def condition(self, text: str | None) -> bool:
        """Whether a step or job runs; without a status function of its own, only when nothing failed."""
        if text is None:
            return not self._failed
        asks = re.search(r"\b(always|failure|success|cancelled)\(", text)
        return bool(self.evaluate(text)) and (bool(asks) or not self._failed)

    def expand(self, text: Any) -> Any:
        """A value with its ``${{ }}`` replaced; an expression that is the whole value keeps its type."""
        if not isinstance(text, str):
            return text
        whole = _PART.fullmatch(text.strip())
        if whole:
            return self.evaluate(whole[1])
        return _PART.sub(lambda part: as_text(self.evaluate(part[1])), text)

    def evaluate(self, text: str) -> Any:
        """The value of one expression."""
        self._tokens = []
        at = 0
        while text[at:].strip():
            token = _TOKEN.match(text, at)
            assert token, f"not understood: {text[at:]!r}"
            self._tokens.append((token.lastgroup or "", token[token.lastgroup or 0]))
            at = token.end()
        value = self._either()
        assert not self._tokens, f"{text}: left over: {self._tokens}"
        return value

    def _either(self) -> Any:
        value = self._both()
        while self._take("||"):
            other = self._both()
            value = value or other
        return value

    def _both(self) -> Any:
        value = self._equal()
        while self._take("&&"):
            other = self._equal()
            value = value and other
        return value

    def _equal(self) -> Any:
        value = self._plain()
        for sign, same in (("==", True), ("!=", False)):
            if self._take(sign):
                other = self._plain()
                assert isinstance(value, str), value  # GitHub casts other types; edgec's workflow compares texts
                assert isinstance(other, str), other
                return (value.casefold() == other.casefold()) is same
        return value

    def _plain(self) -> Any:
        if self._take("!"):
            return not self._plain()
        if self._take("("):
            value = self._either()
            assert self._take(")")
            return value
        kind, token = self._tokens.pop(0)
        if kind == "string":
            return token[1:-1].replace("''", "'")
        assert kind == "name", token
        return self._call(token) if self._take("(") else self._look_up(token)

    def _take(self, sign: str) -> bool:
        if self._tokens and self._tokens[0] == ("sign", sign):
            self._tokens.pop(0)
            return True
        return False

    def _look_up(self, name: str) -> Any:
        context, *keys = name.split(".")
        value = self._contexts[context]
        for key in keys:
            value = value.get(key, "") if context in OPTIONAL else value[key]
        return value

    def _call(self, name: str) -> Any:
        arguments = []
        while not self._take(")"):
            arguments.append(self._either())
            self._take(",")
        match name, arguments:
            case "always", []:
                return True
            case "failure", []:
                return self._failed
            case "startsWith", [str() as text, str() as start]:
                return text.casefold().startswith(start.casefold())
            case "fromJSON", [str() as text]:
                return json.loads(text)
            case "hashFiles", [str() as pattern]:
                files = sorted(path for path in self._workspace.glob(pattern) if path.is_file())
                content = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
                return hashlib.sha256(content).hexdigest() if files else ""
        raise AssertionError(f"no function {name} of {arguments}")


def as_text(value: Any) -> str:
    """A value as it is put into a text or a variable."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
