"""Many ops of one reason are one line of a build's output."""

from __future__ import annotations

import pytest

from edgec.cli.show_bundle import coverage_lines
from edgec.passes.coverage import Coverage


def floats(*subjects: str, reason: str = "no kernel") -> list[Coverage]:
    return [Coverage(subject=subject, state="float32", reason=reason) for subject in subjects]


@pytest.mark.parametrize(
    ("coverage", "lines"),
    [
        ([], []),
        (floats("a"), ["a: float32: no kernel"]),
        (floats("a", "b", "a", "c", "d"), ["a, b, c, d: float32: no kernel"]),
        (floats("a", "b", "c", "d", "e"), ["a, b, c and 2 more: float32: no kernel"]),
        (
            [*floats("a"), *floats("x", reason="sensitive"), *floats("b")],
            ["a, b: float32: no kernel", "x: float32: sensitive"],
        ),
    ],
)
def test_equal_reasons_are_one_line(coverage: list[Coverage], lines: list[str]) -> None:
    assert list(coverage_lines(coverage)) == lines
