"""What the terminal says of recipes, rungs and speed."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console
from rich.table import Table

from edgec.analyze.records import ArtifactAnalysis, LayerSensitivity, RecipeScore
from edgec.cli.sensitivity_table import reasons, sensitivity_table
from edgec.cli.tables import gate_table, measurement_table, recipe_lines, rung_table, slower_lines
from edgec.quant.recipe import Recipe
from edgec.verify.records import GateResult, Measurement, RungRecord, SlowOp, Speed

SLOW = Speed(
    ratio=0.5, low=0.4, high=0.6, float_ms=1.0, runs=20, times_ops=True,
    blame=(SlowOp(op="Softmax", dtype="float32", count=1, ms=0.5, float_ms=0.5, reason="no integer kernel"),),
)  # fmt: skip


def printed(table: Table) -> list[str]:
    """Lines of text, with single spaces."""
    stream = io.StringIO()
    Console(file=stream, width=300).print(table)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def rung(name: str, state: str, recipe: Recipe | None, reason: str = "") -> RungRecord:
    return RungRecord.model_validate(
        {"artifact": "m", "rung": name, "state": state, "recipe": recipe, "sqnr_db": 20.0, "reason": reason}
    )


@pytest.mark.parametrize(("width", "there"), [(80, False), (160, True)])
def test_the_speed_up_is_shown_where_there_is_room(
    width: int, there: bool, make_measurement: Callable[..., Measurement]
) -> None:
    table = measurement_table([make_measurement(speed=SLOW), make_measurement()], (), "int8", width)
    heads = [str(column.header) for column in table.columns]
    assert ("x float" in heads) is there
    if there:
        cells = list(table.columns[heads.index("x float")].cells)
        assert cells == ["[red]0.50 (0.40-0.60)[/]", "-"]


def test_no_speed_no_column(make_measurement: Callable[..., Measurement]) -> None:
    table = measurement_table([make_measurement()], (), "fp32", 160)
    assert "x float" not in [str(column.header) for column in table.columns]


def test_rungs_have_their_recipe_in_words() -> None:
    rungs = [
        rung("min-max", "failed", Recipe(), "[evaluation] is missed"),
        rung("corrections", "skipped", None),
        rung("fallback", "met", Recipe()),
    ]
    lines = printed(rung_table(rungs))
    assert "m min-max failed min-max ranges 20.0 [evaluation] is missed" in lines
    assert "m corrections skipped - 20.0" in lines
    assert "m fallback met - 20.0" in lines
    assert recipe_lines(rungs) == ()
    assert recipe_lines([rungs[0], rung("calibration", "met", Recipe(calibration="mse"))]) == (
        "m: MSE ranges (calibration)",
    )


def test_the_nearest_recipe_is_told_where_none_meets_the_goal() -> None:
    values = {"min-max": 15.0, "calibration": 18.0, "corrections": 18.0, "mixed-precision": 12.0}
    short = [
        rung(name, "short", Recipe(equalize=name == "corrections")).model_copy(update={"sqnr_db": value})
        for name, value in values.items()
    ]
    assert recipe_lines(short) == ("m: min-max ranges (calibration)",)
    assert recipe_lines([*short, rung("training", "met", Recipe(train=True))])[0].endswith("(training)")


def test_a_gate_that_is_short_is_no_gate_met(make_measurement: Callable[..., Measurement]) -> None:
    gate = GateResult(
        gate="min_sqnr_db", artifact="model.onnx", runtime="onnxruntime", limit=20.0, value=15.0, state="short",
        margin=-5.0, default=True,
    )  # fmt: skip
    assert printed(measurement_table([make_measurement()], [gate], "int8", 160))[1].endswith("short")
    assert not any("min_sqnr_db" in line for line in printed(gate_table([gate])))


def test_an_artifact_slower_than_float_is_told_with_its_ops(make_measurement: Callable[..., Measurement]) -> None:
    ((loud, blamed),) = slower_lines([make_measurement(), make_measurement(speed=SLOW)])
    assert "slower than its float32 twin" in loud
    assert blamed == ("1 x Softmax (float32) 0.500 ms, in float32 0.500 ms: no integer kernel",)


def test_sensitivity_names_each_reason_once() -> None:
    good = RecipeScore(sqnr_db=float("inf"), metric=None, agreement=None)
    bad = RecipeScore(sqnr_db=None, metric=None, agreement=None, failure="no kernel")
    layers = tuple(
        LayerSensitivity(layer=f"l[{k}]", op="conv2d", only=bad, all_but=good, gain_db=None) for k in range(2)
    )
    item = ArtifactAnalysis(
        artifact="m", backend="b", runtime="r", recipe=Recipe(), quantized=good, layers=layers
    )  # fmt: skip
    assert reasons(item) == ["only l[0], only l[1]: no kernel"]
    lines = printed(sensitivity_table(item, "metric.py:score"))
    assert "l[0] conv2d - - ∞ - -" in lines
    assert "int8 (all layers) ∞ - - - -" in lines
