"""All checks of a project, each run whatever the others report: `edgec check`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgec.check import memory, ops, sets
from edgec.check.accuracy import ModelTrial, of_labels, try_model
from edgec.check.model import Opened, open_model
from edgec.check.project import read_project
from edgec.check.records import Finding, exit_code, in_order
from edgec.check.targets import PlannedTargets, plan_targets
from edgec.dataset.write import Purpose
from edgec.errors import InputSpecError
from edgec.frozen import Frozen
from edgec.model.spec import TensorSpec
from edgec.project.load import FlagValues
from edgec.project.spec import DataSpec, Project
from edgec.storage.temporary import private_folder
from edgec.workers.log import captured

SECONDS_A_SET = 0.6
"""For which each set of samples is read."""
SECONDS_OF_MODEL = 1.0
"""For which the float model is run."""


class Checked(Frozen):
    """The result of `edgec check`."""

    findings: tuple[Finding, ...]
    targets: tuple[str, ...]
    """Those that could be planned."""
    looked_at: str
    """Which samples were read; empty: all of them."""
    samples_run: int
    """Evaluation samples that the float model was run on."""
    seconds: float

    @property
    def exit_code(self) -> int:
        """That of the first error; 0 when there are only warnings."""
        return exit_code(self.findings)


def check(root: Path, given: FlagValues, *, threads: int = 1) -> Checked:
    """Find every problem of the project in `root` for its targets, without building anything.

    Args:
        root: folder of edgec.toml.
        given: project keys that were given as flags.
        threads: CPU threads that the float model is run with.
    """
    began = time.monotonic()
    with private_folder() as scratch:
        checked = _check(root, given, threads, scratch)
    return checked.model_copy(update={"seconds": round(time.monotonic() - began, 2)})


def _check(root: Path, given: FlagValues, threads: int, scratch: Path) -> Checked:
    project, findings = read_project(root, given)
    planned = plan_targets(project, root)
    findings += planned.findings
    with captured(scratch / "check.log"):
        opened = open_model(project.model, root)
        findings += opened.findings
        findings += ops.of_plans(planned.plans, opened.graph, opened.model)
        findings += memory.of_plans(planned.plans, opened.graph, [item.name for item in opened.inputs])
        surveyed = _read_sets(project, root, planned, opened, scratch)
        findings += [finding for one in surveyed for finding in one.findings]
        findings += _of_pairs(surveyed)
        tried = _try(project, root, opened, surveyed, threads)
        findings += tried.findings
    named = [_with_sizes(item, opened, surveyed) for item in findings]
    return Checked(
        findings=in_order(named),
        targets=tuple(plan.target.name for plan in planned.plans),
        looked_at=sets.partly_read(surveyed),
        samples_run=tried.samples,
        seconds=0.0,
    )


def _read_sets(
    project: Project, root: Path, planned: PlannedTargets, opened: Opened, scratch: Path
) -> tuple[sets.SampleSet, ...]:
    known = opened.inputs if opened.settled else ()
    how = sets.ReadSettings(root, scratch, known, project.preprocess, project.build.seed, SECONDS_A_SET)
    wanted: list[tuple[DataSpec | None, Purpose, int | None]] = [
        (project.calibration, "calibration", _drawn(project, planned)),
        (project.evaluation, "evaluation", project.evaluation.samples if project.evaluation else None),
        (project.train, "training", None),
    ]
    return tuple(sets.read_set(spec, what, samples, how) for spec, what, samples in wanted if spec is not None)


def _drawn(project: Project, planned: PlannedTargets) -> int | None:
    """Calibration samples that a build draws; None: as many as there are."""
    stated = project.calibration.samples if project.calibration else None
    return stated or planned.calibrated


def _of_pairs(surveyed: Sequence[sets.SampleSet]) -> Iterator[Finding]:
    evaluation = next((item for item in surveyed if item.what == "evaluation"), None)
    for item in surveyed:
        if evaluation is not None and item is not evaluation:
            yield from sets.of_pair(item, evaluation)


def _try(project: Project, root: Path, opened: Opened, surveyed: Sequence[sets.SampleSet], threads: int) -> ModelTrial:
    """Findings about labels, and about the float model's outputs."""
    evaluation = next((item.survey for item in surveyed if item.what == "evaluation"), None)
    if evaluation is None or project.evaluation is None or evaluation.count == 0:
        return ModelTrial(())  # reading the set reports that it is empty
    metric, findings = of_labels(opened.outputs, evaluation, project.evaluation.metric, root)
    if opened.model is None:
        return ModelTrial(tuple(findings))
    tried = try_model(
        opened.model, evaluation, metric, threads=threads, seconds=SECONDS_OF_MODEL,
        weak_allowed=project.build.allow_weak_float,
    )  # fmt: skip
    return replace(tried, findings=(*findings, *tried.findings))


def _with_sizes(finding: Finding, opened: Opened, surveyed: Sequence[sets.SampleSet]) -> Finding:
    """A finding about an open shape with the sizes that the data has, in the line to add."""
    name = next((name for name in opened.open_inputs if f'input "{name}" is ' in finding.what), "")
    if not name or "shape is not fixed" not in finding.what or finding.exit_code != InputSpecError.exit_code:
        return finding
    dims = opened.open_inputs[name]
    for item in surveyed:
        for spec in item.inputs:
            if sizes := _sizes(dims, spec, alone=len(item.inputs) == 1, name=name):
                line = f'[[model.inputs]] name = "{name}", shape = {sizes}'
                flag = f"--input {name}:{'x'.join(map(str, sizes))}"
                hint = f"the samples of {item.spec.data} have that shape: {line}, or {flag}"
                return finding.model_copy(update={"hint": hint})
    return finding


def _sizes(dims: Sequence[int | str], spec: TensorSpec, *, alone: bool, name: str) -> list[int]:
    """The sizes of a set's array, where it is the input's and fits what is fixed of its shape; else none."""
    fits = len(dims) == len(spec.shape) and all(
        isinstance(dim, str) or dim == size for dim, size in zip(dims[1:], spec.shape[1:], strict=True)
    )
    return list(spec.shape) if fits and (alone or spec.name == name) else []
