"""The plot "where does the error enter?": SQNR of each layer's output, in execution order."""

from __future__ import annotations

from collections.abc import Sequence

from edgec.backends.interface import LayerFidelity
from edgec.report.numbers import number
from edgec.report.plot import Bar, BarPlot, plot_bars

STEEP_DB = 3.0
"""A layer is highlighted when its SQNR is this much below that of all layers before it."""


def plot_fidelity(layers: Sequence[LayerFidelity]) -> BarPlot:
    """One bar a layer; those where the SQNR falls to a new low by `STEEP_DB` stand out."""
    bars, lowest = [], float("inf")
    for item in layers:
        entered = lowest != float("inf") and item.sqnr_db < lowest - STEEP_DB
        lowest = min(lowest, item.sqnr_db)
        bars.append(Bar(item.layer, item.sqnr_db, f"{number(item.sqnr_db, 1)} dB", item.op, entered))
    return plot_bars(bars, title="SQNR of each layer's output against the float model's", unit="dB")
