"""Links, paths, modules and tests that the documentation names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md")])
PATH = re.compile(r"(?:edgec|backends|benchmarks|docs|examples|tests|tools)/[\w./-]*\w")
MODULE = re.compile(r"(?:edgec\.(?!toml|lock|mk|key|pub|build\()[a-z_]+(?:\.\w+)+|benchmarks(?:\.\w+)+)")
TEST = re.compile(r"test_\w+(?:\.py)?")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spans(page: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """Code spans, and words of command lines in code blocks, that match `pattern` from end to end."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return (word for item in [*inline, *blocks] for word in item.split() if pattern.fullmatch(word))


@cache
def known_tests() -> set[str]:
    """Files and functions of tests."""
    files = list((ROOT / "tests").rglob("test_*.py"))
    functions = (re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8")) for path in files)
    return {path.name for path in files}.union(*functions)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_modules_and_tests(page: Path) -> None:
    missing = [
        path
        for path in spans(page, PATH)
        if not (ROOT / path).exists() and "NAME" not in path and not path.startswith("examples/digits/dist")
    ]
    for module in spans(page, MODULE):
        parts = module.split(".")
        places = [ROOT.joinpath(*parts[:count]) for count in (len(parts), len(parts) - 1)]
        if not any(place.is_dir() or place.with_suffix(".py").exists() for place in places):
            missing.append(module)
    missing += [name for name in spans(page, TEST) if name not in known_tests()]
    assert not missing
