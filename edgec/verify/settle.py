"""Deciding by the float model's outputs which metric fits, and whether agreement with them says anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgec.model.spec import TensorSpec
from edgec.verify.agreement import unit_of
from edgec.verify.class_scores import Finding, find_class_scores
from edgec.verify.fidelity import is_map
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs, by_entry, first_output


def settle(
    metric: Metric, reference: Outputs, inputs: Sequence[TensorSpec], *, insisted: bool = False
) -> tuple[Metric, str]:
    """Decide ``auto`` by the float model's outputs, and whether agreement says anything.

    ``auto`` is agreement with the float model where the first output holds class scores in shape and values, or whole
    numbers that are not sizes; else SQNR.

    Args:
        metric: of `choose_metric`.
        reference: the float model's outputs.
        inputs: the model's inputs.
        insisted: whether agreement is measured whatever the values are: a gate of it is stated.

    Returns:
        The metric, and why ``auto`` became what it is; "" for another metric.
    """
    if metric.settled:
        return metric, ""
    finding = _finding(metric, reference, inputs)
    unit = metric.unit if finding.scores or insisted else ""
    if metric.name != "auto":
        return replace(metric, unit=unit), ""
    name, shown = ("agreement", "agreement") if finding.scores else ("sqnr", "SQNR")
    return replace(metric, name=name, unit=unit), f"metric: {shown}, because {finding.why}"


def sure_agreement(reference: Outputs, outputs: Outputs, inputs: Sequence[TensorSpec]) -> float | None:
    """Share of the first output that is the float model's, where its values show that this says anything, else None.

    Args:
        reference: of the float model, on any samples.
        outputs: of an artifact, on the same.
        inputs: the model's inputs.
    """
    first = first_output(reference)
    metric = Metric("auto", None, Path(), unit=unit_of(first.shape[1:], str(first.dtype)))
    shares = settle(metric, reference, inputs)[0].agreement(reference, outputs)
    return None if shares is None else float(shares.mean())


def _finding(metric: Metric, reference: Outputs, inputs: Sequence[TensorSpec]) -> Finding:
    """Whether the first output is such that an equal arg-max, or equal elements, say that it is right."""
    entries = by_entry(reference, metric.group)
    name, first = next(iter(entries.items()))
    if not metric.unit:
        return Finding(False, f'output "{name}" of shape {list(first.shape[1:])} holds no class scores')
    if metric.unit == "elements":
        if is_map(first):
            return Finding(True, f'output "{name}" holds whole numbers, of which the equal ones are counted')
        return Finding(False, f'output "{name}" holds the shades of a picture')
    sizes = [(item.name, math.prod(item.shape) // metric.group) for item in inputs]
    return find_class_scores(name, first, sizes)
