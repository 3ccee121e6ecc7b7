"""The page of `edgec analyze` shows every layer, says why figures are missing, and is safe to open."""

from __future__ import annotations

import math
import re

from edgec.analyze.page import render_analysis
from edgec.analyze.records import (
    Analysis,
    ArtifactAnalysis,
    LayerSensitivity,
    RecipeScore,
    gain,
    most_sensitive_first,
)
from edgec.backends.interface import LayerFidelity
from edgec.quant.recipe import Recipe
from edgec.verify.records import MetricResult

HOSTILE = "<script>alert('x')</script>\"><b>&amp;"


def score(db: float | None, value: float = 90.0, failure: str = "") -> RecipeScore:
    if failure:
        return RecipeScore(sqnr_db=None, metric=None, agreement=None, failure=failure)
    metric = MetricResult(
        name="top1", unit="points", float_value=95.0, value=value, drop=95 - value, drop_low=None, drop_high=None,
        interval="", samples=10,
    )  # fmt: skip
    return RecipeScore(sqnr_db=db, metric=metric, agreement=0.5)


QUANTIZED = score(20.0, 80.0)


def row(layer: str, only: RecipeScore, all_but: RecipeScore) -> LayerSensitivity:
    return LayerSensitivity(layer=layer, op="conv2d", only=only, all_but=all_but, gain_db=gain(all_but, QUANTIZED))


def analysis(name: str = "model.onnx", why: str = "it has no such kernel") -> Analysis:
    rows = [
        row("robust", score(math.inf, 95.0), score(20.0, 80.0)),
        row(name, score(None, failure=why), score(25.5, 85.0)),
        row("fragile", score(21.0, 81.0), score(40.0, 94.0)),
    ]
    whole = ArtifactAnalysis(
        artifact=name, backend="onnxruntime", runtime="onnxruntime", recipe=Recipe(), quantized=QUANTIZED,
        layers=most_sensitive_first(rows), fidelity=(LayerFidelity(layer=name, op="conv2d", sqnr_db=33.25),),
    )  # fmt: skip
    empty = ArtifactAnalysis(artifact="b", backend="b", runtime="b", recipe=Recipe(), failure=why)
    broken = whole.model_copy(
        update={"artifact": "c", "quantized": score(None, failure=why), "fidelity": (), "fidelity_failure": why}
    )
    return Analysis(
        edgec="0.1.0", target="t-int8", target_digest="0", model=name, metric="top1", samples=10, origin=name,
        artifacts=(whole, empty, broken),
    )  # fmt: skip


def rows_of(page: str) -> list[list[str]]:
    found = []
    for line in re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL):
        cells = re.split(r"<t[dh][^>]*>", line)[1:]
        found.append([" ".join(re.sub(r"<[^>]+>", "", cell).split()) for cell in cells])
    return found


def test_every_layer_is_a_row_the_most_sensitive_first() -> None:
    rows = rows_of(render_analysis(analysis()))
    assert rows[1:6] == [
        ["float (all layers)", "", "∞", "95.00 %", "-", "-", "-"],
        ["int8 (all layers)", "", "20.0", "80.00 %", "-", "-", "-"],
        ["fragile", "conv2d", "21.0", "81.00 %", "40.0", "94.00 %", "20.0"],
        ["robust", "conv2d", "∞", "95.00 %", "20.0", "80.00 %", "0.0"],
        ["model.onnx", "conv2d", "it has no such kernel", "25.5", "85.00 %", "5.5"],
    ]
    assert ["int8 (all layers)", "", "it has no such kernel"] in rows


def test_plots_and_reasons() -> None:
    page = render_analysis(analysis())
    assert page.count("<svg") == 3  # two of the whole artifact, one of the broken one
    assert "model.onnx: 33.2 dB: conv2d" in page
    assert page.count('class="weak"') == 2  # "fragile" loses more alone than all the others together
    assert '<p class="loud">it has no such kernel</p>' in page
    assert "Not known: it has no such kernel." in page


def test_the_page_is_whole_and_safe() -> None:
    page = render_analysis(analysis(HOSTILE, HOSTILE))
    assert "<script" not in page
    assert "<b>" not in page
    assert not re.search(r"https?://|//[a-z]|@import|url\(", page)
    assert page.startswith("<!doctype html>")
    assert page == render_analysis(analysis(HOSTILE, HOSTILE))


def test_gain() -> None:
    assert gain(score(None, failure="x"), QUANTIZED) is None
    assert gain(score(math.inf), score(math.inf)) == 0.0
    assert gain(score(math.inf), QUANTIZED) == math.inf
    assert gain(score(-math.inf), score(-math.inf)) == 0.0


def test_records_survive_json() -> None:
    one = analysis()
    assert Analysis.model_validate_json(one.model_dump_json()) == one
