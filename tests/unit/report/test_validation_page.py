"""The page of `edgec validate`, and the terminal's tables."""

from __future__ import annotations

import numpy as np

from edgec.report.pictures import pictures
from edgec.validate.page import render_validation
from edgec.validate.quality import share
from edgec.validate.records import ClassResult, Drift, LayerDrift, RunResult, SampleDifference, Validation


def validation() -> Validation:
    worst = SampleDifference(
        index=3, place="a<b>.png", label="cat", predicted="dog", expected="cat", sqnr_db=5.0, layers=2
    )
    layer = LayerDrift(
        tensor="conv<1>", low=0, high=1, outside=share(9, 10), evaluation=share(0, 100), shift=3.0, certain=2.0
    )
    run = RunResult(
        bundle="b", target="t", artifact="model.onnx", precision="int8", runtime="onnxruntime", value=50.0,
        classes=(ClassResult(label="cat", samples=2, value=50.0, float_value=None, agreement=50.0),), worst=(worst,),
    )  # fmt: skip
    failed = run.model_copy(update={"runtime": "other", "failure": "it is not there", "worst": (), "classes": ()})
    drift = Drift(
        bundle="b", artifact="model.onnx", runtime="onnxruntime", samples=10, outside=share(9, 10),
        evaluation=share(0, 100), layers=(layer,),
    )  # fmt: skip
    untold = Drift(bundle="b", artifact="x", runtime="", samples=0, outside=None, evaluation=None, reason="too old")
    return Validation(
        edgec="1", data="prod", samples=4, labelled=True, content_digest="0", metric="top1", reference="float",
        notes=(), runs=(run, failed), drift=(drift, untold),
    )  # fmt: skip


def test_the_page_tells_all_and_escapes_it() -> None:
    page = render_validation(validation(), {3: {"x": np.zeros((1, 3, 8, 8), np.float32)}})
    for reported in (
        "a&lt;b&gt;.png",
        "conv&lt;1&gt;",
        "it is not there",
        "too old",
        "90.0 %",
        "data:image/png;base64,",
    ):
        assert reported in page
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_can_be_shown_of_inputs() -> None:
    shown = pictures(
        {
            "image": np.arange(192.0).reshape(1, 3, 8, 8),
            "gray": np.zeros((1, 1, 400, 500), np.float32),
            "signal": np.sin(np.arange(1000.0))[None],
            "ids": np.zeros((1, 7), np.int64),
            "cube": np.zeros((1, 5, 5, 5), np.float32),
            "odd": np.array([[np.nan, 1.0]]),
        }
    )
    assert [(item.name, bool(item.source), bool(item.curve)) for item in shown] == [
        ("image", True, False),
        ("gray", True, False),
        ("signal", False, True),
    ]
    assert shown[0].caption == "channels shown as red, green, blue; 0 (black) to 191 (white)"
