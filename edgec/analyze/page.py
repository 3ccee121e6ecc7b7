"""``<target>.analysis.html``: which layers lose most when they are quantized, as tables and plots."""

from __future__ import annotations

from pathlib import Path

from edgec.analyze.records import Analysis, ArtifactAnalysis
from edgec.quant.words import words
from edgec.report.fidelity_plot import plot_fidelity
from edgec.report.numbers import NOT_MEASURED, number
from edgec.report.page import render_page
from edgec.report.plot import Bar, BarPlot, plot_bars
from edgec.verify.records import MetricResult

TEMPLATE = Path(__file__).with_name("analysis.html.j2")


def render_analysis(analysis: Analysis) -> str:
    """An analysis as one HTML page without outside references."""
    return render_page(
        TEMPLATE,
        analysis=analysis,
        sensitivity={item.artifact: _plot(item) for item in analysis.artifacts},
        fidelity={item.artifact: plot_fidelity(item.fidelity) for item in analysis.artifacts},
        words=words,
        metric=metric_text,
    )


def metric_text(metric: MetricResult | None, *, of_float: bool = False) -> str:
    """The metric of a cell, or of the float model, for people: ``96.50 %``."""
    if metric is None:
        return NOT_MEASURED
    value = metric.float_value if of_float else metric.value
    return f"{value:.2f} %" if metric.unit == "points" else f"{value:.4g}"


def _plot(item: ArtifactAnalysis) -> BarPlot:
    """Layers that alone take the model's outputs below those of all the others together stand out."""
    bars = [
        Bar(
            one.layer,
            one.only.sqnr_db,
            NOT_MEASURED if one.only.sqnr_db is None else f"{number(one.only.sqnr_db, 1)} dB",
            one.only.failure or one.op,
            one.only.sqnr_db is not None and one.all_but.sqnr_db is not None and one.only.sqnr_db < one.all_but.sqnr_db,
        )
        for one in item.layers
    ]
    return plot_bars(bars, title="SQNR of the model's outputs with one layer quantized alone", unit="dB")
