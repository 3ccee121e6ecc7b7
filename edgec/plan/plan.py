"""Target + project -> Plan: what will be done, as values. `edgec explain` prints it, `edgec build` runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.backends.interface import AnyBackend, RuntimeSpec
from edgec.backends.registry import get_backend, require_packages
from edgec.errors import BackendUnavailableError, ProjectError
from edgec.frozen import Frozen
from edgec.model.spec import FloatModel
from edgec.passes.contract import Pass, options_of
from edgec.passes.portable import after_pruning, before_pruning
from edgec.plan.fit import check_possible
from edgec.plan.rungs import Rung, first_recipe, rungs
from edgec.project.spec import Project
from edgec.target.load import ResolvedTarget
from edgec.target.spec import GRADIENT_IMPORTANCES, WEIGHT_ONLY, Emit, PruneSpec, Target


@dataclass(frozen=True)
class PlannedEmit:
    """One artifact to make: its backend's passes and the runtimes it will be verified in."""

    index: int
    """Place in the target's ``emit`` list; 0 is the primary artifact."""
    emit: Emit
    backend: AnyBackend
    ladder: tuple[Rung, ...]
    """What is tried for it, in order."""
    passes: tuple[Pass[Any], ...]
    """Of the first recipe; later ones differ in their options."""
    file: str
    runtimes: tuple[RuntimeSpec, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that a build of one target does, in order."""

    target: Target
    project: Project
    calibration_samples: int | None
    """Samples to calibrate with; None when the target needs none."""
    before_pruning: tuple[Pass[FloatModel], ...]
    """Of the float model, whichever artifact is made of it."""
    prune: PruneSpec | None
    """What comes then, with `PruneSpec.round_to` as the device has it; None: nothing."""
    after_pruning: tuple[Pass[FloatModel], ...]
    emits: tuple[PlannedEmit, ...]
    target_files: tuple[Path, ...] = ()
    """The target's own file, those it extends, its device's."""


class PlanRecord(Frozen):
    """A plan as data, for the manifest."""

    calibration_samples: int | None
    portable: tuple[dict[str, Any], ...]
    artifacts: tuple[dict[str, Any], ...]


def make_plan(resolved: ResolvedTarget, project: Project) -> Plan:
    """Plan the build of a target; imports no framework.

    Raises:
        TargetError: a backend cannot make what the target asks for, or knows no such runtime.
        ProjectError: the project lacks what the target needs (a model, calibration or evaluation data).
    """
    check_possible(resolved)
    target = resolved.target
    if project.model.path is None:
        raise ProjectError("no model is named", hint='[model] path = "file.py:function", or: edgec build MODEL')
    if project.evaluation is None:
        raise ProjectError(
            "no evaluation data is named: edgec verifies every artifact on held-out samples",
            hint='[evaluation] data = "evaluation.npz", or --evaluate DATA (labels are optional)',
        )
    samples = None
    if target.precision == "int8" or (project.calibration is not None and target.precision in WEIGHT_ONLY):
        if project.calibration is None:
            raise ProjectError(
                f"no calibration data is named, which {target.name} needs for static int8",
                hint='[calibration] data = "calibration.npz", or --calibration DATA (a few hundred, not held-out ones)',
            )
        samples = project.calibration.samples or target.quantize.samples
    pruning = _pruning(resolved, project)
    ladder = _ladder(target, project)
    emits = tuple(_plan_emit(target, index, ladder) for index in range(len(target.emit)))
    return Plan(target, project, samples, before_pruning(), pruning, after_pruning(), emits, resolved.files)


def _pruning(resolved: ResolvedTarget, project: Project) -> PruneSpec | None:
    spec = resolved.target.prune
    if not spec.prunes:
        return None
    asked = "prune.amount" if spec.amount > 0 else "prune.sparsity"
    if project.train is None and not spec.without_training:
        raise ProjectError(
            f"{resolved.target.name} prunes the model, which needs training afterwards, and no training data is named",
            where=resolved.origin(asked),
            hint='[train] data = "training.npz", or --train DATA; without, most models are of no use afterwards '
            "([prune] without_training = true does it all the same)",
        )
    if project.train is None and spec.amount > 0 and spec.importance in GRADIENT_IMPORTANCES:
        raise ProjectError(
            f"{spec.importance} importance is computed from training data, and none is named",
            where=resolved.origin("prune.importance"),
            hint='[train] data = "training.npz", or [prune] importance = "l1"',
        )
    return spec.model_copy(update={"round_to": spec.round_to or resolved.target.device.channel_multiple})


def prune_options(spec: PruneSpec) -> dict[str, Any]:
    """What there is to say of pruning: what was asked for, and how."""
    channels = {"amount", "goal", "importance", "scope", "round_to", "ignore"} if spec.amount > 0 else set[str]()
    zeros = {"sparsity", "pattern"} if spec.sparsity > 0 else set[str]()
    options: dict[str, Any] = spec.plain()
    always = {"steps", "epochs", "learning_rate", "without_training"}
    return {key: value for key, value in options.items() if key in channels | zeros | always}


def _ladder(target: Target, project: Project) -> tuple[Rung, ...]:
    calibrated, trainable = project.calibration is not None, project.train is not None
    ladder = rungs(target, project.build.effort, calibrated=calibrated, trainable=trainable)
    name = project.build.recipe
    if name is None:
        return ladder
    if chosen := tuple(rung for rung in ladder if rung.name == name):
        return chosen
    raise ProjectError(
        f'{target.name} has no rung "{name}" with effort {project.build.effort}',
        where="[build] recipe",
        hint=f"it has {', '.join(rung.name for rung in ladder)}",
    )


def _plan_emit(target: Target, index: int, ladder: tuple[Rung, ...]) -> PlannedEmit:
    emit = target.emit[index]
    backend = get_backend(emit.backend)
    runtimes = tuple(backend.runtimes(target, emit))
    if emit.runtimes is not None:
        runtimes = tuple(runtime for runtime in runtimes if runtime.name in emit.runtimes)
    passes = tuple(backend.passes(target, emit, first_recipe(target)))
    return PlannedEmit(index, emit, backend, ladder, passes, backend.artifact_file(emit), runtimes)


def require_toolchain(plan: Plan, item: PlannedEmit) -> None:
    """Raise BackendUnavailableError unless `item` can be made here, and be run in a runtime that it is judged in."""
    require_packages(item.backend, plan.target.precision)
    judged = [runtime for runtime in item.runtimes if runtime.judged]
    missing = [runtime.missing for runtime in judged if runtime.missing]
    if missing and (len(missing) == len(judged) or item.emit.runtimes is not None):
        raise BackendUnavailableError(
            f"{'; '.join(missing)}, and {item.file} is to be judged in it",
            where=f"backend {item.backend.name}",
            hint="build this target with Python 3.11, or name another runtime (emit.runtimes)",
        )


def require_any_toolchain(plan: Plan) -> None:
    """Raise BackendUnavailableError when no artifact can be made here, for want of packages."""
    missing = without_toolchain(plan)
    if len(missing) == len(plan.emits):
        raise next(iter(missing.values()))


def without_toolchain(plan: Plan) -> dict[str, BackendUnavailableError]:
    """Artifact file -> why it cannot be made here, for want of packages."""
    missing: dict[str, BackendUnavailableError] = {}
    for item in plan.emits:
        try:
            require_toolchain(plan, item)
        except BackendUnavailableError as error:
            missing[item.file] = error
    return missing


def record(plan: Plan) -> PlanRecord:
    """The plan as data."""
    return PlanRecord(
        calibration_samples=plan.calibration_samples,
        portable=(
            *(_describe(step) for step in plan.before_pruning),
            *([{"name": "prune", "options": prune_options(plan.prune)}] if plan.prune else []),
            *(_describe(step) for step in plan.after_pruning),
        ),
        artifacts=tuple(
            {
                "file": item.file,
                "backend": item.backend.name,
                "ladder": [rung.name for rung in item.ladder],
                "passes": [_describe(step) for step in item.passes],
                "runtimes": [runtime.name for runtime in item.runtimes],
            }
            for item in plan.emits
        ),
    )


def _describe(step: Pass[Any]) -> dict[str, Any]:
    return {"name": step.name, "options": options_of(step)}
