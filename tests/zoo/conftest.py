"""The folder that wheels are downloaded to, and the table of what was built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .building import Outcome

ROW = "zoo"
"""Property of a test report that holds one line of the table."""
HEADER = f"{'model':<20}{'target':<18}{'artifact':<18}{'SQNR dB':>8}{'int8 MACs':>10}{'seconds':>9}  outcome"


@pytest.fixture(scope="session")
def wheels(request: pytest.FixtureRequest) -> Path:
    """Downloaded once, and kept in pytest's cache."""
    folder: Path = request.config.cache.mkdir("zoo-wheels")
    return folder


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str, str, Outcome], None]:
    """Puts an artifact into the table: model, target, what became of it."""

    def told(model: str, target: str, outcome: Outcome) -> None:
        sqnr = "-" if outcome.sqnr_db is None else f"{outcome.sqnr_db:.1f}"
        share = "-" if outcome.int8_share is None else f"{100 * outcome.int8_share:.1f}%"
        told = outcome.refusal or "built"
        row = f"{model:<20}{target:<18}{outcome.artifact:<18}{sqnr:>8}{share:>10}{outcome.seconds:>9.1f}  {told}"
        record_property(ROW, row)

    return told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every artifact, whether its test passed or failed."""
    rows = sorted(_rows(terminalreporter))
    if rows:
        terminalreporter.section("artifacts of the zoo")
        for line in (HEADER, *rows):
            terminalreporter.write_line(line)


def _rows(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for state in ("passed", "failed"):
        for report in reporter.getreports(state):
            yield from (str(value) for name, value in report.user_properties if name == ROW)
