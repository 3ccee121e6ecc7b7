"""The metric of a build: settled by the float model's outputs, and run once, with a record of the files it reads."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec.build.inputs import Inputs
from edgec.dataset.file_accesses import record_file_accesses
from edgec.plan.context import BuildContext
from edgec.project.load import split_entry
from edgec.project.record import code_digests, digest_of, recorded_path
from edgec.project.spec import Project
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs
from edgec.verify.settle import settle
from edgec.workers.log import captured


@dataclass(frozen=True)
class SettledMetric:
    """The metric that artifacts are judged by."""

    metric: Metric
    notes: tuple[str, ...]
    """How it was chosen."""
    code: Mapping[str, str]
    """SHA-256 (hex) of the code of metric, loss and training function, by path."""
    reads: Mapping[str, str]
    """SHA-256 (hex) of the files that it reads besides these, by path."""


def settle_metric(context: BuildContext, inputs: Inputs, reference: Outputs) -> SettledMetric:
    """Settle the metric and run it once on the float model's own outputs.

    Args:
        context: of the build.
        inputs: with the metric as the project states it.
        reference: the float model's outputs on the evaluation samples.

    Raises:
        ProjectError: the metric fails.
    """
    code = code_digests(context.plan.project, context.root)
    with captured(context.log):
        metric, notes = chosen_metric(context.plan.project, inputs, reference)
        reads = files_read(metric, reference, context.root, context.scratch, known=code)
    return SettledMetric(metric, notes, code, reads)


def chosen_metric(project: Project, inputs: Inputs, reference: Outputs) -> tuple[Metric, tuple[str, ...]]:
    """The metric to judge by, and notes about how it was chosen.

    Args:
        project: a gate of agreement that it states is measured whatever the outputs are.
        inputs: with the metric as the project states it.
        reference: the float model's outputs on the evaluation samples.
    """
    insisted = project.gates.min_agreement is not None
    metric, why = settle(inputs.metric, reference, inputs.model.inputs, insisted=insisted)
    notes: tuple[str, ...] = (why,) if why else ()
    if inputs.evaluation.labels is not None and metric.name in ("sqnr", "agreement"):
        origin = project.evaluation.data if project.evaluation else inputs.evaluation.info.origin
        notes += (f"the labels of {origin} are not used: the metric is {metric.name}",)
    return metric, notes


def files_read(
    metric: Metric, reference: Outputs, root: Path, scratch: Path, *, known: Collection[str]
) -> dict[str, str]:
    """Judge the float model by itself, and record what the metric opens meanwhile.

    A metric that fails should fail before anything is built; and gates depend on the files that it reads.

    Args:
        metric: of the build.
        reference: the float model's outputs.
        root: the project's folder.
        scratch: the build's own folder, which is left out.
        known: files that are recorded already, and left out.

    Returns:
        SHA-256 (hex) of the files in the project, or beside or below the metric's own, that it opened: Python files
        that it imports by a name computed at run time, and data. By the paths under which they are recorded, sorted.

    Raises:
        ProjectError: the metric fails.
    """
    entry = split_entry(metric.name)
    if entry is None:
        metric.compare(reference, reference)
        return {}
    with record_file_accesses(root, scratch) as reads:
        metric.compare(reference, reference)
    folders = {root.resolve(), (root / entry[0]).resolve().parent}
    own = [path for path in reads.files if not folders.isdisjoint(path.resolve().parents)]
    recorded = {recorded_path(os.path.relpath(path, root)): path for path in sorted(own)}
    return {name: digest_of(path) for name, path in sorted(recorded.items()) if name not in known}
