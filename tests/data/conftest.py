"""The folder of real models, and the table of what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROW = "measured"
"""Property of a test report that holds one line of the table."""
HEADER = (
    f"{'model':<15}{'target':<18}{'artifact':<18}{'runtime':<16}{'float':>8}{'value':>8}{'drop':>7}{'agree':>8}"
    f"{'KiB':>8}{'ratio':>7}"
)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """``$EDGEC_DATA``; without it these tests fail, for a skipped test proves nothing."""
    value = os.environ.get("EDGEC_DATA", "")
    if not value:
        pytest.fail("EDGEC_DATA is not set: set it to the folder of fashion-mnist/ and mlperf-tiny-kws/", pytrace=False)
    folder = Path(value).absolute()
    if missing := [name for name in ("fashion-mnist", "mlperf-tiny-kws") if not (folder / name).is_dir()]:
        pytest.fail(f"EDGEC_DATA={value}: no folder {', '.join(missing)} in it", pytrace=False)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every measured artifact, whether its test passed or failed."""
    rows = sorted(_rows(terminalreporter))
    if rows:
        terminalreporter.section("artifacts of the real models")
        for line in (HEADER, *rows):
            terminalreporter.write_line(line)


def _rows(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for state in ("passed", "failed"):
        for report in reporter.getreports(state):
            yield from (str(value) for name, value in report.user_properties if name == ROW)
