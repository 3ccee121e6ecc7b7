"""The page and the table of a sweep show every point, say what is missing, and are safe to open."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgec.machine import Machine
from edgec.passes.coverage import Coverage
from edgec.quant.recipe import Recipe
from edgec.report.scatter import HEIGHT, WIDTH, Mark, plot_scatter
from edgec.sweep.page import HEADINGS, markdown_table, render_sweep
from edgec.sweep.records import Pace, Point, Sweep, Unmade
from edgec.verify.records import MetricResult

HOSTILE = "<script>alert('x')</script>\"><b>&amp;|"


def point(accuracy: float = 90.0, ms: float | None = 1.0, **fields: Any) -> Point:
    metric = MetricResult(
        name="top1", unit="points", float_value=95.0, value=accuracy, drop=95 - accuracy, drop_low=-1.0, drop_high=9.0,
        interval="", samples=10,
    )  # fmt: skip
    pace = None
    if ms is not None:
        pace = Pace(latency_ms=ms, ratio=0.5, ratio_low=0.4, ratio_high=0.6, float_ms=2 * ms, steady_ms=ms)
    plain: dict[str, Any] = {
        "target": "t-int8", "device": "t", "prune": 0.5, "precision": "int8", "method": "minmax", "artifact": "m.onnx",
        "backend": "onnxruntime", "runtime": "onnxruntime", "sha256": "0", "size_bytes": 2048, "recipe": Recipe(),
        "metric": metric, "agreement": 0.9, "sqnr_db": 30.0, "pace": pace, "memory_mb": 70.4,
    }  # fmt: skip
    return Point(**{**plain, **fields})


def sweep(*points: Point, **fields: Any) -> Sweep:
    machine = Machine(arch="x86_64", cpu="test cpu", features=(), cores=2)
    plain: dict[str, Any] = {
        "edgec": "0.1.0", "model": "m", "metric": "top1", "samples": 10, "machine": machine, "points": points,
        "unmade": (),
    }  # fmt: skip
    return Sweep(**{**plain, **fields})


def test_the_page_shows_points_and_reasons() -> None:
    unmade = Unmade(
        target="t-int8",
        prune=0.0,
        precision="fp16",
        method="",
        artifact="example",
        possible=False,
        reason="no fp16 here",
    )
    points = (
        point(front=True),
        point(95.0, 2.0, front=True, chosen=True, pruned="16 of 32 channels", device="other"),
        point(ms=None, notes=("not timed: it took too long",)),
        point(
            failure="it crashed", coverage=(Coverage(subject="head", state="float32", reason="its kernel is missing"),)
        ),
    )
    page = render_sweep(sweep(*points, unmade=(unmade,), rule="min latency", saved="best"))
    for text in (
        "16 of 32 channels",
        "not timed: it took too long",
        "it crashed",
        "no fp16 here",
        "impossible",
        "its kernel is missing",
    ):
        assert text in page
    assert "edgec build --target best" in page
    assert page.count("<svg") == 4  # two devices: latency and size
    assert "src=" not in page
    assert "http" not in page
    assert len(re.findall("<circle", page)) == 5  # the one that crashed has no place


def test_names_are_escaped() -> None:
    page = render_sweep(sweep(point(artifact=HOSTILE, notes=(HOSTILE,)), model=HOSTILE, rule=HOSTILE))
    assert "<script>alert" not in page
    assert "no point holds it" in page


def test_nothing_was_made() -> None:
    assert "<svg" not in render_sweep(sweep())
    page = render_sweep(sweep(point(metric=None, sqnr_db=float("inf")), metric="sqnr"))
    assert "∞" in page


def test_markdown() -> None:
    lines = markdown_table(
        [point(front=True), point(metric=None, ms=None, artifact="a|b", memory_mb=None)]
    ).splitlines()
    assert len(lines) == 4
    assert len({len(line) for line in lines}) == 1
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    assert {len(row) for row in cells} == {len(HEADINGS)}
    assert [cell.strip() for cell in cells[2]] == [
        "t-int8", "0.5", "int8", "minmax", "m.onnx", "90.00 %", "5.00 (-1.00 to 9.00)", "30.0", "2.0", "1.000",
        "0.50 (0.40 to 0.60)", "70", "front",
    ]  # fmt: skip
    assert [cell.strip() for cell in cells[3]][4:8] == ["a\\|b", "-", "-", "30.0"]


def test_scatter_is_inside_its_axes() -> None:
    marks = [Mark(x, y, weight, "g", "", front=True) for x, y, weight in ((0.1, 80, 1), (0.2, 90, 4), (0.4, 85, 100))]
    plot = plot_scatter(marks, title="", x_label="", y_label="")
    assert plot is not None
    assert all(0 < mark.x < WIDTH and 0 < mark.y < HEIGHT for mark in plot.marks)
    by_x = sorted(plot.marks, key=lambda mark: mark.x)
    assert by_x[0].y > by_x[2].y > by_x[1].y  # large values are above
    assert [mark.radius for mark in plot.marks] == sorted((mark.radius for mark in plot.marks), reverse=True)
    steps = [tuple(map(float, pair.split(","))) for pair in plot.front.split()]
    assert len(steps) == 3  # up to the second; the third is on the front for its size alone
    assert plot.x_ticks[0].text == "0.1"


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_one_point_has_axes_too(value: float) -> None:
    plot = plot_scatter([Mark(value, value, 0.0, "g", "")], title="", x_label="", y_label="")
    assert plot is not None
    assert len(plot.x_ticks) >= 2
    assert plot_scatter([Mark(1.0, float("inf"), 1.0, "g", "")], title="", x_label="", y_label="") is None
