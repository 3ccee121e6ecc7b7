"""The cells of a sweep: plans of variants of the named targets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edgec.backends.registry import get_backend
from edgec.errors import TargetError
from edgec.plan.fit import check_possible
from edgec.plan.plan import Plan, make_plan
from edgec.project.spec import BuildSpec, Gates, Project
from edgec.sweep.records import Unmade
from edgec.target.load import ResolvedTarget
from edgec.target.spec import WEIGHT_ONLY, Budget, CalibrationMethod, Precision, PruneSpec, QuantSpec, Target

NO_GATES = Gates(min_sqnr_db=-1e9)
"""Any outputs hold this; with no gate of quality at all, those that fit the metric would apply."""
LADDERS: tuple[Precision, ...] = ("int8", *WEIGHT_ONLY)
"""Precisions that there is more than one recipe for."""


@dataclass(frozen=True)
class Cell:
    """One variant of a target, ready to be made."""

    target: str
    """Name of the target it is a variant of."""
    prune: float
    precision: Precision
    method: str
    """Calibration method; empty for precisions that calibrate no ranges."""
    plan: Plan
    reference: bool = False
    """Whether it is the float reference that others are timed against."""
    key: str = ""
    """Digest of all its inputs (`edgec.sweep.keys`)."""

    @property
    def label(self) -> str:
        """Its coordinates in words."""
        return " ".join(part for part in (self.target, f"prune {self.prune:g}", self.precision, self.method) if part)

    def unmade(self, reason: str, artifact: str = "", *, possible: bool = True) -> Unmade:
        """The record of a cell, or of one of its artifacts, that has no point.

        Args:
            reason: why.
            artifact: file or backend; empty: the whole cell.
            possible: False: no backend can make it.
        """
        return Unmade(
            target=self.target, prune=self.prune, precision=self.precision, method=self.method, artifact=artifact,
            possible=possible, reason=reason,
        )  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """Values to combine; empty: those of the target."""

    prune: tuple[float, ...] = ()
    precision: tuple[Precision, ...] = ()
    method: tuple[CalibrationMethod, ...] = ()


def cells_of(resolved: ResolvedTarget, project: Project, levels: Levels) -> tuple[tuple[Cell, ...], tuple[Unmade, ...]]:
    """All variants of one target that its backends can make, and why the others cannot be made.

    Args:
        resolved: the target.
        project: model and data; gates and the time budget are ignored.
        levels: what to combine.

    Raises:
        TargetError: a level is not a valid value, or the target itself is impossible.
        ProjectError: the project lacks what a variant needs.
    """
    target = resolved.target
    cells: dict[tuple[float, Precision, str], Cell] = {}
    unmade: dict[tuple[float, Precision, str], tuple[Unmade, ...]] = {}
    for amount in levels.prune or (target.prune.amount,):
        for precision in levels.precision or (target.precision,):
            for wanted in levels.method or (target.quantize.calibration,):
                method = wanted if precision == "int8" else ""
                at = (amount, precision, method)
                if at not in unmade:
                    cell, unmade[at] = _cell(resolved, project, *at)
                    if cell is not None:
                        cells[at] = cell
    return tuple(cells.values()), tuple(one for several in unmade.values() for one in several)


def reference_of(resolved: ResolvedTarget, project: Project) -> Cell | None:
    """The unpruned float32 variant, that all others are timed against; None where no backend can make it."""
    cell, _ = _cell(resolved, project, None, "fp32", "")
    return None if cell is None else Cell(cell.target, 0.0, "fp32", "", cell.plan, reference=True)


def _cell(
    resolved: ResolvedTarget, project: Project, amount: float | None, precision: Precision, method: str
) -> tuple[Cell | None, tuple[Unmade, ...]]:
    changed = _variant(resolved.target, amount, precision, method)
    emits, unmade = [], []
    for index, emit in enumerate(resolved.target.emit):
        check_possible(_only(resolved, index))  # a wrong name or option is an error of the target, not of the variant
        if reasons := get_backend(emit.backend).reasons_against(changed, emit):
            reason = "; ".join(reasons)
            unmade.append(
                Unmade(
                    target=changed.name, prune=changed.prune.amount, precision=precision, method=method,
                    artifact=emit.backend, possible=False, reason=reason,
                )
            )  # fmt: skip
        else:
            emits.append(emit)
    if not emits:
        return None, tuple(unmade)
    changed = changed.model_copy(update={"emit": tuple(emits)})
    plan = make_plan(ResolvedTarget(changed, resolved.origins, resolved.files), _project(project, precision))
    return Cell(changed.name, changed.prune.amount, precision, method, plan), tuple(unmade)


def _only(resolved: ResolvedTarget, index: int) -> ResolvedTarget:
    target = resolved.target.model_copy(update={"emit": (resolved.target.emit[index],)})
    origins = {("emit", 0, *key[2:]): place for key, place in resolved.origins.items() if key[:2] == ("emit", index)}
    return ResolvedTarget(target, origins, resolved.files)


def _variant(target: Target, amount: float | None, precision: Precision, method: str) -> Target:
    """`target` with other levels; settings without effect get their defaults, so that equal variants are equal.

    Args:
        target: what to vary.
        amount: of channels to remove; None: nothing is pruned at all.
        precision: of its artifacts.
        method: of calibration, for int8.
    """
    prune = PruneSpec() if amount is None else target.prune.model_copy(update={"amount": amount})
    quantize: dict[str, Any] = {"fallback": None}
    if precision == "int8":
        quantize["calibration"] = method
    else:
        quantize |= {"calibration": "auto", "float_layers": ()}
    spec = target.quantize.model_copy(update=quantize) if precision not in ("fp32", "fp16") else QuantSpec()
    changes = {"precision": precision, "quantize": spec, "prune": prune, "budget": Budget()}
    values = target.model_copy(update=changes).model_dump(mode="json")
    try:
        changed = Target.model_validate_json(json.dumps(values))
    except ValidationError as exc:
        problem = exc.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise TargetError(
            f"{key}: {problem['msg']}: {problem['input']!r}", where=f"a variant of {target.name}"
        ) from None
    return changed if changed.prune.prunes else changed.model_copy(update={"prune": PruneSpec()})


def _project(project: Project, precision: Precision) -> Project:
    build = project.build.model_copy(update={"targets": (), "out": "", "time_budget": BuildSpec().time_budget})
    if precision not in LADDERS:
        build = build.model_copy(update={"effort": "balanced", "recipe": None})
    return project.model_copy(update={"gates": NO_GATES, "build": build})


def mixed(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """`cells`, reordered so that those of the same pruned model are far apart: the second waits for the first."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.plan.target.device.name, cell.plan.target.prune.digest()), []).append(cell)
    placed = [(place, cell) for group in groups.values() for place, cell in enumerate(group)]
    return tuple(cell for _, cell in sorted(placed, key=lambda item: item[0]))
