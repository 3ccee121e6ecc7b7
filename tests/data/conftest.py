"""The folder of real models, and the table of what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import edgec

ROW = "measured"
"""Property of a test report that holds one line of the table."""
HEADER = (
    f"{'model':<15}{'target':<18}{'artifact':<18}{'runtime':<16}{'float':>8}{'value':>8}{'drop':>7}{'agree':>8}"
    f"{'SQNR':>7}{'KiB':>8}{'ratio':>7}"
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project with targets for qnnpack alone: a Pi's other artifacts are those of the x86 target."""
    (tmp_path / "targets").mkdir()
    for precision in ("int8", "fp32"):
        text = f'extends = "rpi4-{precision}"\n[[emit]]\nbackend = "qnnpack"\n'
        (tmp_path / "targets" / f"qnnpack-{precision}.toml").write_text(text)
    return tmp_path


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


@pytest.fixture
def tell(
    record_property: Callable[[str, object], None],
) -> Callable[[str, str, edgec.Bundle, Mapping[str, float]], None]:
    """Puts what was measured of a bundle into the table: model, target, bundle, size ratios by artifact."""

    def told(model: str, target: str, bundle: edgec.Bundle, ratios: Mapping[str, float]) -> None:
        for item in bundle.measurements:
            if item.metric is None or item.agreement is None:
                continue
            decibel = item.sqnr_db()
            sqnr = "-" if decibel is None else f"{decibel:.1f}"
            ratio = f"{ratios[item.artifact]:.3f}" if item.artifact in ratios else "-"
            row = (
                f"{model:<15}{target:<18}{item.artifact:<18}{item.runtime:<16}"
                f"{item.metric.float_value:>8.2f}{item.metric.value:>8.2f}{item.metric.drop:>7.2f}"
                f"{100 * item.agreement:>8.2f}{sqnr:>7}{item.size_bytes / 1024:>8.1f}{ratio:>7}"
            )
            record_property(ROW, row)

    return told


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
