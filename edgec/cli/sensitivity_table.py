"""The table of `edgec analyze`, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from edgec.analyze.page import metric_text
from edgec.analyze.records import ArtifactAnalysis, RecipeScore
from edgec.quant.words import words
from edgec.report.numbers import NOT_MEASURED, number


def sensitivity_table(item: ArtifactAnalysis, metric: str) -> Table:
    """Float and int8 for reference, then one row a layer, the most sensitive first."""
    title = f"{item.artifact} in {item.runtime}: what is quantized has {words(item.recipe)}"
    table = Table(
        box=None, pad_edge=False, padding=(0, 2), title=escape(title), title_justify="left", title_style="bold"
    )
    table.add_column("layer", overflow="fold")
    table.add_column("op", no_wrap=True)
    metric = metric.rpartition(":")[2]
    for heading in ("only: SQNR dB", metric, "all but: SQNR dB", metric, "gain dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    quantized = item.quantized
    metric = metric_text(quantized.metric if quantized else None, of_float=True)
    table.add_row("float (all layers)", "", number(float("inf")), metric, *[NOT_MEASURED] * 3)
    if quantized is not None:
        table.add_row("int8 (all layers)", "", *_cells(quantized), *[NOT_MEASURED] * 3, end_section=True)
    for one in item.layers:
        table.add_row(escape(one.layer), one.op, *_cells(one.only), *_cells(one.all_but), number(one.gain_db, 1))
    return table


def reasons(item: ArtifactAnalysis) -> Sequence[str]:
    """Why figures are missing, each reason once with the layers it concerns."""
    concerned: dict[str, list[str]] = {}
    if item.quantized is not None and item.quantized.failure:
        concerned.setdefault(item.quantized.failure, []).append("int8 (all layers)")
    for one in item.layers:
        if one.only.failure:
            concerned.setdefault(one.only.failure, []).append(f"only {one.layer}")
        if one.all_but.failure:
            concerned.setdefault(one.all_but.failure, []).append(f"all but {one.layer}")
    return [f"{', '.join(subjects)}: {failure}" for failure, subjects in concerned.items()]


def _cells(score: RecipeScore) -> tuple[str, str]:
    return (number(score.sqnr_db, 1), metric_text(score.metric))
