"""Write the diagram of docs/architecture.md from the layers in pyproject.toml and the imports between packages.

Usage: ``.venv/bin/python tools/architecture.py``. A unit test fails when the diagram is out of date.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- begin: written by tools/architecture.py -->\n", "<!-- end -->\n"

Edges = Mapping[str, set[str]]
"""Package -> the packages that it imports."""


def layers() -> list[list[str]]:
    """Packages of each layer of the layers contract, the top layer first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (item for item in settings["tool"]["importlinter"]["contracts"] if item["type"] == "layers")
    return [[name.strip() for name in layer.split(":")] for layer in contract["layers"]]


def imports(packages: list[str]) -> Edges:
    """Imports between `packages` of edgec, those for type checking included."""
    graph = grimp.build_graph("edgec", cache_dir=None)
    edges: dict[str, set[str]] = {name: set() for name in packages}
    for module in graph.modules - {"edgec"}:
        package = module.split(".")[1]
        edges[package] |= {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) - {"edgec"}}
    return {package: names - {package} for package, names in edges.items()}


def direct(edges: Edges) -> list[tuple[str, str]]:
    """Transitive reduction: the imports that no chain of other imports implies. Imports within a cycle all stay."""

    def below(package: str, known: set[str]) -> set[str]:
        for name in edges[package] - known:
            known |= below(name, known | {name})
        return known

    reach = {package: below(package, set()) for package in edges}

    def implied(package: str, name: str) -> bool:
        return any(
            name in reach[other] and package not in reach[other] and other not in reach[name]
            for other in edges[package] - {name}
        )

    order = list(edges)
    return [
        (package, name)
        for package in order
        for name in sorted(edges[package], key=order.index)
        if not implied(package, name)
    ]


def diagram() -> str:
    """A Mermaid flow chart: a box for each layer, an arrow from a package to each that it imports."""
    rows = layers()
    lines = ["```mermaid", "flowchart TB"]
    for number, row in enumerate(rows, 1):
        lines += [f'  subgraph layer{number}["layer {number}"]', *(f"    {name}" for name in row), "  end"]
    edges = imports([name for row in rows for name in row])
    lines += [f"  {package} --> {name}" for package, name in direct(edges)]
    return "\n".join([*lines, "```", ""])


def updated(page: str) -> str:
    """The text of `page` with a new diagram between the two marks."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + diagram() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
