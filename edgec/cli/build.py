"""`edgec build`: bundles for the named targets, with progress and a table of what was measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.options import project_of, project_options, targets_of

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.assemble import Bundle, Inspector
    from edgec.errors import EdgecError
    from edgec.execute.run import BuildResult
    from edgec.plan import Plan
    from edgec.project.spec import Project

LOG_WIDTH = 160
"""Columns of tables that go to a file or a pipe, as in CI."""


@click.command()
@project_options
@click.option(
    "--keep-going",
    is_flag=True,
    help="When an artifact or target fails, build the others; the exit code still tells.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each process.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), help="Artifacts to make at once (default: what CPUs and memory allow)."
)
@click.option("--locked", is_flag=True, help="Fail when anything differs from edgec.lock, which is then not written.")
@click.option(
    "--check-reproducible",
    is_flag=True,
    help="Build each target twice, in separate processes, and fail unless both bundles have the same bytes.",
)
@click.option("--depfile", type=click.Path(path_type=Path, dir_okay=False), help="Write a Make dependency file.")
def command(
    root: Path,
    keep_going: bool,
    threads: int,
    jobs: int | None,
    locked: bool,
    check_reproducible: bool,
    depfile: Path | None,
    **given: Any,
) -> None:
    """Compile MODEL (a file, or file.py:function) to verified bundles under dist/.

    Without MODEL, the edgec.toml of this folder says what to build.
    """
    from rich.console import Console

    from edgec.depfile import write_depfile
    from edgec.errors import EdgecError
    from edgec.log import terminal

    project = project_of(root, given)
    names = targets_of(project, root)
    how = _How(root, threads, jobs, keep_going, locked, check_reproducible)
    errors: list[EdgecError] = []
    finished: list[Bundle] = []
    with terminal() as stream:
        console = Console(file=stream, width=None if stream.isatty() else LOG_WIDTH)
        for name in names:
            try:
                bundle = _build(name, project, how, console)
                errors += bundle.failures
                finished.append(bundle)
            except EdgecError as error:
                errors.append(error)
                if not keep_going:
                    break
    if depfile is not None:
        write_depfile(depfile, [_rule(bundle, project, root) for bundle in finished])
    for other in errors[1:]:
        click.echo(f"edgec: error: {other}", err=True)
    if errors:
        raise errors[0]


@dataclass(frozen=True)
class _How:
    """How all targets are built."""

    root: Path
    threads: int
    jobs: int | None
    keep_going: bool
    locked: bool
    check_reproducible: bool


def _rule(bundle: Bundle, project: Project, root: Path) -> tuple[Path, tuple[Path, ...]]:
    """A built bundle's manifest and what it depends on."""
    from edgec.depfile import dependencies
    from edgec.plan import make_plan
    from edgec.target.load import load_target

    target = load_target(bundle.manifest.target.name, root)
    plan = make_plan(target, project)
    calibrated = plan.calibration_samples is not None
    trained = any(rung.name == "training" for item in plan.emits for rung in item.ladder)
    folder = root / project.build.out / bundle.manifest.target.name
    imported = [root / file for file in bundle.imported]
    needed = dependencies(project, root, (*target.files, *imported), calibrated=calibrated, trained=trained)
    return folder / "manifest.json", needed


def _build(name: str, project: Project, how: _How, console: Console) -> Bundle:
    from rich.markup import escape

    from edgec.assemble import build_target
    from edgec.cli.tables import gate_table, measurement_table, recipe_lines, rung_table, slower_lines
    from edgec.execute.follow_lock import LockUse

    began = time.monotonic()

    def show(plan: Plan, result: BuildResult) -> None:
        measurements = [item for one in result.built for item in one.measurements]
        rungs, ranges = [rung for one in result.built for rung in one.rungs], plan.target.precision == "int8"
        for gap in (gap for one in result.built for gap in one.coverage if gap.fallback):
            loud = f"{gap.subject} {gap.state.upper()}: {gap.reason}"
            console.print(loud, style="bold red", markup=False, highlight=False, soft_wrap=True)
        console.print(measurement_table(measurements, result.gates, plan.target.precision, console.width))
        if any(gate.state == "failed" for gate in result.gates):
            console.print(gate_table(result.gates))
            console.print(rung_table(rungs, ranges=ranges))
        for line in recipe_lines(rungs) if ranges else ():
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        for loud, blamed in slower_lines(measurements):
            console.print(loud, style="bold red", markup=False, highlight=False, soft_wrap=True)
            for line in blamed:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        told = [f"{item.artifact} in {item.runtime}: {item.failure}" for item in measurements if item.failure]
        told += [
            f"{gate.artifact} in {gate.runtime}: {gate.gate} {gate.limit:g}: not measured: {gate.reason}"
            for gate in result.gates
            if gate.state == "not measured"
        ]
        for line in told:
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    with console.status(name) as status:

        def progress(step: str) -> None:
            status.update(escape(f"{name}: {step}"))
            if not console.is_terminal:
                console.print(f"{name}: {step}", highlight=False, markup=False, soft_wrap=True)

        def build(inspector: Inspector) -> Bundle:
            return build_target(
                name, project, how.root, threads=how.threads, jobs=how.jobs, keep_going=how.keep_going,
                lock_use=LockUse(how.locked), progress=progress, listener=show, inspector=inspector,
            )  # fmt: skip

        if how.check_reproducible:
            from edgec.reproduce import SecondBuild

            second = SecondBuild(
                name, project, how.root, threads=how.threads, keep_going=how.keep_going, locked=how.locked,
                progress=progress,
            )  # fmt: skip
            bundle = build(second)
            reproduced = second.found
        else:
            bundle, reproduced = build(lambda bundle, scratch, log: None), None
    for data in (bundle.manifest.calibration, bundle.manifest.evaluation):
        if data is None:
            continue
        for note in data.notes:
            console.print(f"  {data.origin}: {note}", highlight=False, markup=False, soft_wrap=True)
    for item in bundle.manifest.coverage:
        console.print(f"  {item.subject}: {item.state}: {item.reason}", highlight=False, markup=False, soft_wrap=True)
    for one in bundle.manifest.artifacts:
        if one.compressed_size is not None:
            packed = f"{one.size / 1024:.1f} KiB, {one.compressed_size / 1024:.1f} KiB compressed"
            console.print(f"  {one.artifact.file}: {packed}", highlight=False, markup=False, soft_wrap=True)
    if reproduced is not None:
        told = f"{name}: reproducible: {reproduced.files} files are byte for byte the same in a second build"
        console.print(f"{told}, manifest {reproduced.manifest}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"{name}: done in {time.monotonic() - began:.0f} s, bundle:", highlight=False)
    click.echo(bundle.path)
    return bundle
