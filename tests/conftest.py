"""Coverage is measured only in tests of the packages that have a floor, because it slows the others down."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MEASURED = {TESTS / "e2e", *(TESTS / "unit" / package for package in ("build", "ladder", "lock", "cli"))}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the other tests for pytest-cov."""
    if config.pluginmanager.has_plugin("_cov"):
        for item in items:
            if MEASURED.isdisjoint(item.path.parents):
                item.add_marker("no_cover")
