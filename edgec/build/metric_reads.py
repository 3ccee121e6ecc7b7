"""The first run of the user's metric, and what it reads: gates and comparisons are no surer than these files."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from edgec.dataset.file_accesses import record_file_accesses
from edgec.project.load import split_entry
from edgec.project.record import digest_of, recorded_path
from edgec.verify.metrics import Metric
from edgec.verify.outputs import Outputs


def try_metric(
    metric: Metric, reference: Outputs, root: Path, scratch: Path, *, known: Collection[str]
) -> dict[str, str]:
    """Judge the float model by itself: a metric that fails should fail before anything is built.

    Args:
        metric: of the build.
        reference: the float model's outputs.
        root: the project's folder.
        scratch: the build's own folder, which is left out.
        known: files that are told already, and left out.

    Returns:
        SHA-256 (hex) of the files in the project, or beside or below the metric's own, that it opened: Python files
        that it imports by a name computed at run time, and data. By their paths as they are told, sorted.

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
    told = {recorded_path(os.path.relpath(path, root)): path for path in sorted(own)}
    return {name: digest_of(path) for name, path in sorted(told.items()) if name not in known}
