"""Checks of the requested targets: they exist, can be planned, and their toolchains are installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgec.check.records import Finding, finding_of
from edgec.errors import EdgecError, ProjectError
from edgec.plan.plan import Plan, make_plan, without_toolchain
from edgec.project.spec import CalibrationSpec, EvaluationSpec, ModelSpec, Project, TrainSpec
from edgec.target.load import ResolvedTarget, load_target
from edgec.target.select import select

_STAND_IN = "?"
_STAND_INS = (
    ("model", ModelSpec(path=_STAND_IN)),
    ("evaluation", EvaluationSpec(data=_STAND_IN)),
    ("calibration", CalibrationSpec(data=_STAND_IN)),
    ("train", TrainSpec(data=_STAND_IN)),
)
"""Parts of a project that may be missing, in the order in which `make_plan` needs them."""


@dataclass(frozen=True)
class PlannedTargets:
    """The plans of all targets that can be planned, and the findings."""

    plans: tuple[Plan, ...]
    findings: tuple[Finding, ...]

    @property
    def calibrated(self) -> int | None:
        """The most calibration samples that a target draws; None: no target needs any."""
        counts = [plan.calibration_samples for plan in self.plans if plan.calibration_samples is not None]
        return max(counts, default=None)


def plan_targets(project: Project, root: Path) -> PlannedTargets:
    """Plan all targets of a project."""
    findings: list[Finding] = []
    if not project.build.targets:
        error = ProjectError("no target is named", hint="edgec check --target rpi4-int8; `edgec targets` lists them")
        findings.append(finding_of(error, "target"))
    names: list[str] = []
    for pattern in project.build.targets:
        try:
            names += select((pattern,), root)
        except EdgecError as error:
            findings.append(finding_of(error, "target"))
    plans = []
    for name in dict.fromkeys(names):
        try:
            resolved = load_target(name, root)
        except EdgecError as error:
            findings.append(finding_of(error, "target"))
            continue
        plan, more = _plan(resolved, project)
        findings += more
        if plan is not None:
            plans.append(plan)
            findings += _toolchain(plan)
    return PlannedTargets(tuple(plans), tuple(findings))


def _plan(resolved: ResolvedTarget, project: Project) -> tuple[Plan | None, list[Finding]]:
    """The plan of a target, with stand-ins for missing parts of the project, and a finding for each of these."""
    findings: list[Finding] = []
    for name, stand_in in (*_STAND_INS, ("", None)):
        try:
            return make_plan(resolved, project), findings
        except ProjectError as error:
            findings.append(finding_of(error, "project"))
        except EdgecError as error:
            return None, [*findings, finding_of(error, "target")]
        project = _with(project, name, stand_in)
    return None, list(dict.fromkeys(findings))


def _with(project: Project, name: str, stand_in: object) -> Project:
    lacks = name == "model" and project.model.path is None
    if not name or not (lacks or getattr(project, name) is None):
        return project
    return project.model_copy(update={name: stand_in})


def _toolchain(plan: Plan) -> list[Finding]:
    findings = []
    for file, error in without_toolchain(plan).items():
        finding = finding_of(error, "toolchain")
        where = f"{plan.target.name}: {file}: {error.where}"
        findings.append(
            finding.model_copy(update={"where": where, "what": f"the artifact will be missing: {error.what}"})
        )
    return findings
