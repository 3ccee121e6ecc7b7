"""Print the coverage of the packages in [tool.coverage.run], and exit with 1 if lines of one are below the floor."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parents[1]
FLOOR = 85.0
"""Per cent of lines."""


def percent(files: Sequence[dict[str, Any]], done: str, of: str) -> float:
    """Share of `done` in `of`, two counts of coverage.py, over several files; 0 for a package that never ran."""
    total = sum(file["summary"][of] for file in files)
    return 100 * sum(file["summary"][done] for file in files) / total if total else 0.0


def measured_files() -> dict[str, dict[str, Any]]:
    """Path -> results of coverage.py, from the data of the last test run.

    Raises:
        coverage.exceptions.NoDataError: there is none.
    """
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        measured.json_report(outfile=str(report))
        files: dict[str, dict[str, Any]] = json.loads(report.read_bytes())["files"]
    return files


def main() -> int:
    """Print the table; for a package below the floor, also its files with the number of lines that no test runs."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    try:
        files = measured_files()
    except coverage.exceptions.NoDataError:
        print("no coverage data; run: make test", file=sys.stderr)
        return 1
    below = []
    for package in settings["tool"]["coverage"]["run"]["source_pkgs"]:
        own = {name: file for name, file in files.items() if name.startswith(package.replace(".", "/") + "/")}
        lines = percent([*own.values()], "covered_lines", "num_statements")
        branches = percent([*own.values()], "covered_branches", "num_branches")
        print(f"{package:14} {lines:5.1f} % of lines, {branches:5.1f} % of branches")
        if lines < FLOOR:
            below.append(package)
            missing = {name: file["summary"]["missing_lines"] for name, file in own.items()}
            print("".join(f"  {name}: {count} lines\n" for name, count in missing.items() if count), end="")
    if below:
        print(f"below the floor of {FLOOR:g} % of lines: {', '.join(below)}; add tests", file=sys.stderr)
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
