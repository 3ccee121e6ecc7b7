"""From target names and levels to a `Sweep`: the steps of `edgec sweep` in order."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgec.backends.registry import package_version
from edgec.errors import EdgecError, GateError, TargetError, UsageError
from edgec.machine import host_machine
from edgec.plan.plan import require_toolchain
from edgec.project.spec import Project
from edgec.storage.cache import user_cache
from edgec.storage.files import storage_errors, write_atomically
from edgec.sweep.keys import Keys
from edgec.sweep.making import Executor, MadeCells, Options, choose_executor, make_cells
from edgec.sweep.page import render_sweep
from edgec.sweep.pareto import on_front
from edgec.sweep.pick import Rule, parse_rule
from edgec.sweep.points import Made, points_of
from edgec.sweep.records import Point, Sweep, Unmade
from edgec.sweep.save import own_file, save_target
from edgec.sweep.store import CellStore
from edgec.sweep.timing import Placed, Timed, Timer
from edgec.sweep.variants import Cell, Levels, cells_of, reference_of
from edgec.target.load import load_target
from edgec.workers.worker import Progress


@dataclass(frozen=True)
class Swept:
    """The result of `sweep_targets`, and its files."""

    sweep: Sweep
    json: Path
    html: Path
    saved: Path | None
    """The target of the chosen point."""
    computed: int
    """Cells that this run made, float references included."""
    cached: int
    """Cells that earlier runs had made."""
    failures: tuple[EdgecError, ...]
    """Errors of cells, and of the rule."""


def sweep_targets(
    names: Sequence[str],
    project: Project,
    root: Path,
    *,
    levels: Levels | None = None,
    options: Options | None = None,
    rule: str | None = None,
    save: str | None = None,
    progress: Progress = lambda step: None,
) -> Swept:
    """Make all variants of the named targets, time them, compare them and pick one.

    Args:
        names: of targets.
        project: the user's model and data, with paths relative to `root`; its gates are left out of account.
        root: the project's folder.
        levels: what to combine; None: the targets as they are.
        options: how cells are made.
        rule: which point to choose, see `edgec.sweep.pick`.
        save: name of the target to write it as; None: ``picked-<target>``.
        progress: called with each step.

    Raises:
        EdgecError: a target, level, rule or project is wrong. Errors of single cells, and of a rule that no point
            meets, are in `Swept.failures`.
    """
    options = options or Options()
    parsed = _checked_rule(rule, save, names, project, root)
    cells, unmade = _cells(names, project, root, levels or Levels())
    out = (root / project.build.out).absolute()
    store, keys = CellStore(out, root), Keys(root, options.threads, out)
    cells = tuple(replace(cell, key=keys.key(cell.plan)) for cell in cells)
    executor: Executor = choose_executor(options, store, cells, progress)
    made = make_cells(cells, executor, store, keys, root=root, out=out, threads=options.threads, progress=progress)
    points = _points(cells, made, store, out, progress)
    points = tuple(point.model_copy(update={"front": on}) for point, on in zip(points, on_front(points), strict=True))
    failures = list(made.failed.values())
    chosen: Point | None = None
    if parsed is not None:
        try:
            points, chosen = _picked(parsed, points)
        except GateError as error:
            failures.append(error)
    first = next(iter(made.records.values()), None)
    sweep = Sweep(
        edgec=package_version("edgec") or "unknown",
        model=str(project.model.path),
        metric=first.metric if first else "",
        samples=first.samples if first else 0,
        machine=host_machine(),
        points=points,
        unmade=(*unmade, *failed_cells(cells, made)),
        rule=rule or "",
    )
    table, page = _write(sweep, out)
    saved: Path | None = None
    if parsed is not None and chosen is not None:
        saved = own_file(save or f"picked-{chosen.target}", root)
        emits = load_target(chosen.target, root).target.emit
        save_target(saved, chosen, next(one for one in emits if one.backend == chosen.backend), parsed.text, root)
        sweep = sweep.model_copy(update={"saved": saved.stem})
        _write(sweep, out)
    cached = len(made.records.keys() - made.computed)
    return Swept(sweep, table, page, saved, len(made.computed), cached, tuple(failures))


def _write(sweep: Sweep, out: Path) -> tuple[Path, Path]:
    """Write ``sweep.json`` and ``sweep.html``; returns their paths."""
    table, page = out / "sweep.json", out / "sweep.html"
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_atomically(table, json.dumps(sweep.plain(), indent=1, ensure_ascii=False) + "\n")
    write_atomically(page, render_sweep(sweep))
    return table, page


def _checked_rule(
    rule: str | None, save: str | None, names: Sequence[str], project: Project, root: Path
) -> Rule | None:
    if rule is None:
        if save is not None:
            hint = 'add a rule: --pick "accuracy>=0.90, min latency"'
            raise UsageError("--save without --pick: no point is chosen", hint=hint)
        return None
    parsed = parse_rule(rule, project.evaluation.metric if project.evaluation else "auto")
    for name in [save] if save else [f"picked-{name}" for name in names]:
        own_file(name, root, names)
    return parsed


def _cells(
    names: Sequence[str], project: Project, root: Path, levels: Levels
) -> tuple[tuple[Cell, ...], tuple[Unmade, ...]]:
    """The cells of all targets, and for each target the float reference that others are timed against."""
    cells: list[Cell] = []
    unmade: list[Unmade] = []
    for name in names:
        resolved = load_target(name, root)
        own, impossible = cells_of(resolved, project, levels)
        unmade += impossible
        cells += own
        reference = reference_of(resolved, project) if own else None
        cells += [reference] if reference else []
    if not cells:
        reasons = "; ".join(dict.fromkeys(f"{item.precision}: {item.artifact}: {item.reason}" for item in unmade))
        raise TargetError(f"no backend can make any cell of this sweep: {reasons}", where=", ".join(names))
    for cell in cells:
        for item in cell.plan.emits:
            require_toolchain(cell.plan, item)
    return tuple(cells), tuple(unmade)


def failed_cells(cells: Sequence[Cell], made: MadeCells) -> tuple[Unmade, ...]:
    """Cells and artifacts that failed, of float references too."""
    failed: list[Unmade] = []
    asked = {(cell.target, cell.key) for cell in cells if not cell.reference}
    for cell in cells:
        if cell.reference and (cell.target, cell.key) in asked:
            continue  # its failure is reported for the cell itself
        prefix = "float reference: " if cell.reference else ""
        if error := made.failed.get(cell.key):
            where = f"{error.where}: " if error.where else ""
            failed.append(cell.unmade(f"{prefix}{where}{error.what}"))
        record = made.records.get(cell.key)
        failed += [cell.unmade(prefix + part.reason, part.file) for part in (record.failures if record else ())]
    return tuple(failed)


def _points(
    cells: Sequence[Cell], made: MadeCells, store: CellStore, out: Path, progress: Progress
) -> tuple[Point, ...]:
    placed = {cell.key: _placed(cell, made, store) for cell in cells}
    floats = {cell.target: placed[cell.key] for cell in cells if cell.reference}
    references = {cell.target: cell for cell in cells if cell.reference}
    artifacts = [
        Made(cell, one, floats.get(cell.target, {}).get(backend), _alone(references.get(cell.target), one, made))
        for cell in cells
        if not cell.reference
        for backend, one in placed[cell.key].items()
    ]
    log = out / ".work" / "sweep" / "hosts" / socket.gethostname() / "timing" / "build.log"
    timer = Timer(user_cache(), log)
    count = 0

    def time(one: Made) -> Timed:
        nonlocal count
        count += 1
        step_name = f"time {count} of {len(artifacts)}: {one.cell.label} {one.placed.made.artifact.file}"
        beside = None if one.is_reference else one.beside
        bench = one.cell.plan.target.bench
        return timer.time(one.placed, beside, one.runtime, bench, lambda step: progress(f"{step_name}: {step}"))

    return points_of(artifacts, time)


def _alone(reference: Cell | None, one: Placed, made: MadeCells) -> str:
    """Why no float artifact of the same format exists."""
    if reference is None:
        return "no backend of the target makes one"
    if error := made.failed.get(reference.key):
        return error.what
    parts = made.records[reference.key].failures if reference.key in made.records else ()
    file = one.made.artifact.file
    return next((part.reason for part in parts if part.file == file), "its backend does not make one")


def _placed(cell: Cell, made: MadeCells, store: CellStore) -> Mapping[str, Placed]:
    """A cell's artifacts by backend, none of a cell that failed."""
    record = made.records.get(cell.key)
    folder = store.folder(cell.key)
    return {one.artifact.backend: Placed(one, folder) for one in (record.artifacts if record else ())}


def _picked(rule: Rule, points: Sequence[Point]) -> tuple[tuple[Point, ...], Point]:
    index = rule.pick(points)
    chosen = points[index].model_copy(update={"chosen": True})
    return (*points[:index], chosen, *points[index + 1 :]), chosen
