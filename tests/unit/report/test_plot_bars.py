"""The geometry of bars: one scale, nothing outside the picture, nothing lost."""

from __future__ import annotations

import math

import pytest

from edgec.backends.interface import LayerFidelity
from edgec.report.fidelity_plot import plot_fidelity
from edgec.report.plot import LABEL, LONGEST, VALUE, WIDTH, Bar, plot_bars

EDGE = WIDTH - VALUE


def bars(*values: float | None) -> list[Bar]:
    return [Bar(f"layer{k}", value, str(value)) for k, value in enumerate(values)]


def test_lengths_are_in_proportion() -> None:
    plot = plot_bars(bars(10.0, 20.0, 40.0), title="t", unit="dB")
    first, second, third = plot.bars
    assert (first.x, second.x, third.x) == (LABEL, LABEL, LABEL)
    assert second.width == pytest.approx(2 * first.width)
    assert third.width == pytest.approx(4 * first.width)
    assert third.x + third.width == EDGE
    assert [tick.text for tick in plot.ticks] == ["0", "10", "20", "30", "40"]
    assert [bar.y for bar in plot.bars] == sorted(bar.y for bar in plot.bars)
    assert plot.bars[-1].y < plot.height


def test_values_below_zero_go_to_the_left_of_it() -> None:
    low, high = plot_bars(bars(-5.0, 10.0), title="t", unit="dB").bars
    assert low.x + low.width == pytest.approx(high.x)
    assert low.x == LABEL


@pytest.mark.parametrize(
    "values",
    [
        (),
        (None,),
        (0.0,),
        (math.inf,),
        (-math.inf,),
        (math.inf, -math.inf, 3.0, None),
        (1e-9,),
        (1e9, -1e9),
        (0.1, 0.3),
    ],
)
def test_everything_stays_in_the_picture(values: tuple[float | None, ...]) -> None:
    plot = plot_bars(bars(*values), title="t", unit="dB")
    assert len(plot.bars) == len(values)
    for bar in plot.bars:
        assert LABEL <= bar.x <= bar.x + bar.width <= EDGE
    assert plot.ticks[0].x == LABEL
    assert plot.ticks[-1].x == EDGE
    assert 2 <= len(plot.ticks) <= 12


def test_infinite_bars_end_at_the_edge_and_unknown_ones_have_none() -> None:
    best, worst, unknown, _ = plot_bars(bars(math.inf, -math.inf, None, 7.0), title="t", unit="dB").bars
    assert best.x + best.width == EDGE
    assert (worst.width, unknown.width) == (0.0, 0.0)


def test_long_names_keep_their_end_and_are_whole_on_hovering() -> None:
    name = "encoder." * 12 + "conv7"
    (bar,) = plot_bars([Bar(name, 1.0, "1.0 dB", "conv2d")], title="t", unit="dB").bars
    assert len(bar.label) == LONGEST
    assert bar.label.endswith("conv7")
    assert bar.title == f"{name}: 1.0 dB: conv2d"


def test_new_lows_stand_out() -> None:
    values = (math.inf, 40.0, 39.0, 35.0, 37.0, 34.0, 30.0)
    layers = [LayerFidelity(layer=f"l{k}", op="conv2d", sqnr_db=db) for k, db in enumerate(values)]
    assert [bar.weak for bar in plot_fidelity(layers).bars] == [False, False, False, True, False, False, True]
