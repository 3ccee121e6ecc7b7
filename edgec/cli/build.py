"""`edgec build`: bundles for the named targets, with progress and a table of what was measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.options import project_of, project_options, targets_of
from edgec.cli.tell import tell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from edgec.build.api import Bundle
    from edgec.build.build import Inspector
    from edgec.build.job import Inputs
    from edgec.build.run import BuildResult
    from edgec.check.records import Finding
    from edgec.errors import EdgecError
    from edgec.plan.plan import Plan
    from edgec.project.spec import Project
    from edgec.workers.worker import Progress

LOG_WIDTH = 160
"""Columns of tables that go to a file or a pipe, as in CI."""


@click.command()
@project_options
@click.option(
    "--all-or-nothing",
    is_flag=True,
    help="End with the first failure, and write no bundle of that target (default: build all the others).",
)
@click.option("--keep-going", is_flag=True, help="Deprecated: this is the default.")
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
    all_or_nothing: bool,
    keep_going: bool,
    threads: int,
    jobs: int | None,
    locked: bool,
    check_reproducible: bool,
    depfile: Path | None,
    **given: Any,
) -> None:
    """Compile MODEL (a file, or file.py:function) to verified bundles under dist/.

    Without MODEL, the edgec.toml of this folder says what to build. Where an artifact cannot be made or misses its
    gates, the bundle has the others and says so, and the exit code is 21.
    """
    from rich.console import Console

    from edgec.build.depfile import write_depfile
    from edgec.bundle.check import incomplete
    from edgec.cli.findings import EARLY, tell_others
    from edgec.errors import EdgecError, IncompleteError, UsageError
    from edgec.workers.log import terminal

    if all_or_nothing and keep_going:
        raise UsageError("--all-or-nothing and --keep-going exclude each other", hint="leave one of them out")
    try:
        project = project_of(root, given)
        names = targets_of(project, root)
    except EdgecError as error:
        tell_others(root, given, error)
        raise
    how = _How(root, threads, jobs, all_or_nothing, locked, check_reproducible)
    errors: list[EdgecError] = []
    finished: list[Bundle] = []
    with terminal() as stream:
        console = Console(file=stream, width=None if stream.isatty() else LOG_WIDTH)
        with _read_ahead(names, project, how, console) as inputs:
            for name in names:
                try:
                    bundle = _build(name, project, how, console, inputs.get(name))
                    finished.append(bundle)
                    if bundle.failures:
                        errors.append(incomplete(bundle.path, bundle.manifest))
                except EdgecError as error:
                    if isinstance(error, EARLY) and not any(isinstance(one, EARLY) for one in errors):
                        tell_others(root, given, error)
                    errors.append(error)
                    if all_or_nothing:
                        break
    if depfile is not None:
        write_depfile(depfile, [_rule(bundle, project, root) for bundle in finished])
    errors.sort(
        key=lambda error: isinstance(error, IncompleteError)
    )  # a target without any bundle decides the exit code
    for other in errors[1:]:
        tell(other)
    if errors:
        raise errors[0]


@dataclass(frozen=True)
class _How:
    """How all targets are built."""

    root: Path
    threads: int
    jobs: int | None
    all_or_nothing: bool
    locked: bool
    check_reproducible: bool


def _rule(bundle: Bundle, project: Project, root: Path) -> tuple[Path, tuple[Path, ...]]:
    """A built bundle's manifest and what it depends on."""
    from edgec.build.depfile import dependencies
    from edgec.plan.plan import make_plan
    from edgec.target.load import load_target

    target = load_target(bundle.manifest.target.name, root)
    plan = make_plan(target, project)
    calibrated = plan.calibration_samples is not None
    trained = any(rung.name == "training" for item in plan.emits for rung in item.ladder)
    folder = root / project.build.out / bundle.manifest.target.name
    imported = [root / file for file in bundle.imported]
    needed = dependencies(project, root, (*target.files, *imported), calibrated=calibrated, trained=trained)
    return folder / "manifest.json", needed


def _tell_missing(plan: Plan, console: Console) -> None:
    """Say before the work begins which artifacts cannot be made, unless it is all: then the build says so at once."""
    from edgec.plan.plan import without_toolchain

    missing = without_toolchain(plan)
    for file, error in missing.items() if len(missing) < len(plan.emits) else ():
        told = f"{plan.target.name}: {file} WILL BE MISSING: {error}"
        console.print(told, style="bold red", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _read_ahead(
    names: tuple[str, ...], project: Project, how: _How, console: Console
) -> Iterator[Mapping[str, Inputs]]:
    """What several targets are built from, read and found right before the first is; one target reads for itself."""
    from edgec.build.inputs import inputs_of_all
    from edgec.errors import EdgecError
    from edgec.plan.plan import make_plan
    from edgec.target.load import load_target

    if len(names) < 2:
        yield {}
        return
    plans: list[Plan] = []
    errors: list[EdgecError] = []
    for name in names:
        try:
            plans.append(make_plan(load_target(name, how.root), project))
        except EdgecError as error:
            errors.append(error)
    for other in errors[1:]:
        tell(other)
    if errors:
        raise errors[0]
    out = (how.root / project.build.out).absolute()
    told = f"{len(names)} targets"
    with (
        console.status(told) as status,
        inputs_of_all(plans, how.root, out, threads=how.threads, progress=_progress(told, console, status)) as inputs,
    ):
        status.stop()
        yield inputs


def _progress(name: str, console: Console, status: Status) -> Progress:
    """Shows what begins: in place on a terminal, else line by line."""
    from rich.markup import escape

    def progress(step: str) -> None:
        status.update(escape(f"{name}: {step}"))
        if not console.is_terminal:
            console.print(f"{name}: {step}", highlight=False, markup=False, soft_wrap=True)

    return progress


def _tell_samples(result: BuildResult, console: Console) -> None:
    """Say what was done to the first samples: a wrong colour order or scale is seen by no figure so early."""
    for spool in filter(None, (result.data.calibration, result.data.evaluation)):
        for line in spool.info.first_sample:
            told = f"  first sample of {spool.info.origin}: {line}"
            console.print(told, highlight=False, markup=False, soft_wrap=True)


def _build(name: str, project: Project, how: _How, console: Console, inputs: Inputs | None) -> Bundle:
    from edgec.build.build import build_target
    from edgec.cli.findings import show_findings
    from edgec.cli.show_bundle import show_bundle
    from edgec.cli.show_result import show_result
    from edgec.lock.follow import LockUse
    from edgec.plan.plan import make_plan
    from edgec.target.load import load_target

    began = time.monotonic()
    if not how.all_or_nothing:
        _tell_missing(make_plan(load_target(name, how.root), project), console)

    def show(plan: Plan, result: BuildResult) -> None:
        _tell_samples(result, console)
        show_result(plan, result, console, all_or_nothing=how.all_or_nothing)

    def tell_found(item: Finding) -> None:
        show_findings([item], console, name)

    with console.status(name) as status:
        progress = _progress(name, console, status)

        def build(inspector: Inspector) -> Bundle:
            return build_target(
                name, project, how.root, threads=how.threads, jobs=how.jobs, all_or_nothing=how.all_or_nothing,
                lock_use=LockUse(how.locked), progress=progress, listener=show, found=tell_found,
                inspector=inspector, inputs=inputs,
            )  # fmt: skip

        if how.check_reproducible:
            from edgec.build.reproduce import SecondBuild

            second = SecondBuild(
                name, project, how.root, threads=how.threads, all_or_nothing=how.all_or_nothing, locked=how.locked,
                progress=progress,
            )  # fmt: skip
            bundle = build(second)
            reproduced = second.found
        else:
            bundle, reproduced = build(lambda bundle, scratch, log: None), None
    show_bundle(bundle, console)
    if reproduced is not None:
        told = f"{name}: reproducible: {reproduced.files} files are byte for byte the same in a second build"
        console.print(f"{told}, manifest {reproduced.manifest}", highlight=False, markup=False, soft_wrap=True)
    done = f"{name}: done in {time.monotonic() - began:.0f} s"
    if bundle.failures:
        console.print(f"{done}, INCOMPLETE bundle:", style="bold red", highlight=False)
    else:
        console.print(f"{done}, bundle:", highlight=False)
    click.echo(bundle.path)
    return bundle
