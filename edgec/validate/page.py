"""The page of `edgec validate`: accuracy on new samples, drift, and pictures of the samples that differ most."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgec.model.spec import Array
from edgec.report.numbers import NOT_MEASURED, number
from edgec.report.page import render_page
from edgec.report.pictures import pictures
from edgec.report.plot import Bar, BarPlot, plot_bars
from edgec.validate.records import Drift, Share, Validation

TEMPLATE = Path(__file__).with_name("validation.html.j2")


def render_validation(validation: Validation, inputs: Mapping[int, Mapping[str, Array]]) -> str:
    """One HTML page without outside references.

    Args:
        validation: the results.
        inputs: the model's inputs of the samples that are listed one by one, by their index in the data.
    """
    return render_page(
        TEMPLATE,
        validation=validation,
        pictures={index: pictures(sample) for index, sample in inputs.items()},
        layers={(item.bundle, item.artifact): _plot(item) for item in validation.drift if item.layers},
        shifts={(item.bundle, item.artifact): _shifts(item) for item in validation.drift if item.layers},
        share=share_text,
        number=number,
    )


def share_text(item: Share | None) -> str:
    """A share as text: ``12.5 % (10.1 to 15.2)``."""
    if item is None:
        return NOT_MEASURED
    return f"{100 * item.value:.1f} % ({100 * item.low:.1f} to {100 * item.high:.1f})"


def _plot(item: Drift) -> BarPlot:
    """Samples that leave each range; red where they are clearly more than of the evaluation set."""
    bars = [
        Bar(
            layer.tensor,
            100 * layer.outside.value,
            f"{100 * layer.outside.value:.1f} %",
            f"{layer.low:.4g} to {layer.high:.4g}; evaluation set {100 * layer.evaluation.value:.1f} %",
            layer.clear,
        )
        for layer in item.layers
    ]
    return plot_bars(bars, title="Samples that leave each calibrated range", unit="%")


def _shifts(item: Drift) -> BarPlot:
    """Shift of each level; red where chance does not explain it."""
    bars = [Bar(layer.tensor, layer.shift, f"{layer.shift:+.2f}", "", layer.certain > 0) for layer in item.layers]
    return plot_bars(bars, title="How far the level of each activation has moved", unit="sd")
