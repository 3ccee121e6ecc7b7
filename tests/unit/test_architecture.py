"""The diagram of docs/architecture.md is what tools/architecture.py makes of the contracts and the import graph."""

from __future__ import annotations

import architecture


def test_diagram_is_up_to_date() -> None:
    page = architecture.PAGE.read_text(encoding="utf-8")
    assert architecture.updated(page) == page, "out of date; run: .venv/bin/python tools/architecture.py"


def test_implied_imports_are_left_out() -> None:
    edges = {"cli": {"build", "errors"}, "build": {"errors", "model"}, "model": {"errors"}, "errors": set[str]()}
    assert architecture.direct(edges) == [("cli", "build"), ("build", "model"), ("model", "errors")]


def test_imports_within_a_cycle_stay() -> None:
    edges = {"model": {"project", "errors"}, "project": {"model", "errors"}, "errors": set[str]()}
    assert ("model", "project") in architecture.direct(edges)
    assert ("project", "model") in architecture.direct(edges)
