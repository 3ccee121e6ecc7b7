"""The figure of a sweep is an SVG file of its own, with each timed point at its place."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from edgec.machine import host_machine
from edgec.sweep.page import render_figure
from edgec.sweep.records import Point, Sweep

SVG = "{http://www.w3.org/2000/svg}"


def sweep_of(*points: Point) -> Sweep:
    return Sweep(edgec="0", model="net", metric="top1", samples=10, machine=host_machine(), points=points, unmade=())


def test_the_more_accurate_is_higher_and_the_larger_is_larger(make_point: Callable[..., Point]) -> None:
    points = (
        make_point(95.0, kib=40.0, artifact="whole.onnx"),
        make_point(90.0, kib=10.0, artifact="small.onnx", front=True),
        make_point(80.0, None, artifact="untimed.onnx"),
        make_point(99.0, artifact="broken.onnx", failure="it crashed"),
    )
    root = ElementTree.fromstring(render_figure(sweep_of(*points)))
    assert root.tag == f"{SVG}svg"
    circles = {str(item[0].text).partition(":")[0].split()[-1]: item for item in root.iter(f"{SVG}circle")}
    assert sorted(circles) == ["small.onnx", "whole.onnx"]
    whole, small = circles["whole.onnx"], circles["small.onnx"]
    assert float(whole.attrib["cy"]) < float(small.attrib["cy"])
    assert float(whole.attrib["r"]) == pytest.approx(2 * float(small.attrib["r"]), abs=0.2)
    assert "on" in small.attrib["class"].split()
    assert "int8 onnxruntime" in "".join(root.itertext())


def test_the_legend_of_many_kinds_stays_in_the_picture(make_point: Callable[..., Point]) -> None:
    points = (make_point(90.0 - number, backend=f"backend{number}") for number in range(12))
    root = ElementTree.fromstring(render_figure(sweep_of(*points)))
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    legend = [item for item in root.iter(f"{SVG}text") if "legend" in item.attrib.get("class", "")]
    assert len({item.attrib["class"] for item in legend}) == 12
    assert max(float(item.attrib["x"]) + 120 for item in legend) <= width
    assert max(float(item.attrib["y"]) for item in legend) <= height


def test_nothing_timed_is_no_figure(make_point: Callable[..., Point]) -> None:
    with pytest.raises(ValueError, match="no point was timed"):
        render_figure(sweep_of(make_point(90.0, None)))
