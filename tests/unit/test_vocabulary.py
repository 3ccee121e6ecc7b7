"""Text and names use the terms of the field: none of the words of docs/vocabulary.toml."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT_SUFFIXES = {".md", ".j2", ".mk", ".yml", ".sh", ".toml", ""}


@cache
def rules(kind: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Pattern and what to write instead: of kind "word", in text and names, or "name", in names as they are."""
    entries = tomllib.loads((ROOT / "docs" / "vocabulary.toml").read_text(encoding="utf-8"))[kind]
    if kind == "name":
        return tuple((re.compile(entry["pattern"]), entry["instead"]) for entry in entries)
    spaced = ((entry["pattern"].replace(" ", "[ \n]"), entry["instead"]) for entry in entries)
    return tuple((re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE), instead) for pattern, instead in spaced)


def hits_in_text(text: str) -> Iterator[tuple[int, str, str]]:
    """Line (from 0), what was matched, and what to write instead."""
    text = re.sub(r" ?\n ?", "\n", re.sub(r"[^\S\n]+", " ", text))
    for pattern, instead in rules("word"):
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()), " ".join(match[0].split()), instead


def hits_in_name(name: str) -> Iterator[tuple[int, str, str]]:
    """The same of an identifier, whose words are parted by underscores."""
    yield from hits_in_text(name.replace("_", " "))
    yield from ((0, name, instead) for pattern, instead in rules("name") if pattern.search(name))


def hits_in_python(source: str) -> Iterator[tuple[int, str, str]]:
    """Line (from 1) and the same, of comments, string literals and the names that a module defines."""
    if any(any(hits_in_text(line[line.index("#") :])) for line in source.splitlines() if "#" in line):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield from ((token.start[0], *hit[1:]) for hit in hits_in_text(token.string))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno + line, *rest) for line, *rest in hits_in_text(node.value))
        elif name := _defined(node):
            yield from ((getattr(node, "lineno", 1), *hit[1:]) for hit in hits_in_name(name))


def _defined(node: ast.AST) -> str | None:
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
            return name
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
    return None


def package_of(path: Path) -> str:
    """``edgec.build``, ``backends.tflite``, ``edgec`` of a module of its own, ``docs`` of all documentation."""
    parts = path.relative_to(ROOT).parts
    if path.suffix == ".md":
        return "docs"
    return ".".join(parts[:2]) if len(parts) > 2 else parts[0]


def files() -> Iterator[Path]:
    """Source, data and documentation; the symbolic links in edgec lead to folders that are listed themselves."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / "docs").glob("*.md"))
    yield from sorted((ROOT / "examples").glob("*/*.md"))
    for folder in ("edgec", "backends", "targets"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix in {".py", *TEXT_SUFFIXES}:
                yield path


def hits_in_file(path: Path) -> list[str]:
    """``file:line: "word"; write: ...``, a text for each hit."""
    text = path.read_text(encoding="utf-8")
    hits = hits_in_python(text) if path.suffix == ".py" else ((line + 1, *rest) for line, *rest in hits_in_text(text))
    return [f'{path.relative_to(ROOT)}:{line}: "{word}"; write: {instead}' for line, word, instead in hits]


def all_hits() -> dict[str, list[str]]:
    """Package -> its hits; only packages with hits."""
    hits: dict[str, list[str]] = {}
    for path in files():
        if lines := hits_in_file(path):
            hits.setdefault(package_of(path), []).extend(lines)
    return hits


def test_words_of_the_field() -> None:
    hits = all_hits()
    assert not hits, "\n".join(line for lines in hits.values() for line in lines)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""What is told."""', ["told"]),
        ("# whoever\n# pulls", ["whoever"]),
        ('x = f"{path} is no bundle"', ["is no bundle"]),
        ("# they share no scale", []),
        ('x = "there\\n   is no bundle"\ny = "this is no longer so"', []),
        ("class CrewMember: ...", ["CrewMember"]),
        ("def f(what_it_tells): ...", ["tells"]),
        ('"""Nothing comes\nto an answer."""', ["comes to"]),
        ("found = []\nfounder = 1", ["found"]),
        ("stole = 'sold, mould'", []),
    ],
)
def test_rules(source: str, words: list[str]) -> None:
    assert [word for _, word, _ in hits_in_python(source)] == words
