"""`edgec build`: bundles for the named targets, with progress and a table of what was measured."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from edgec.cli.build_display import build_display
from edgec.cli.console import say, terminal_console
from edgec.cli.echo import echo
from edgec.cli.options import project_of, project_options, targets_of, threads_option
from edgec.cli.report_error import raise_first
from edgec.errors import EdgecError, IncompleteError, UsageError

if TYPE_CHECKING:
    from edgec.build.api import Bundle
    from edgec.build.inputs import Inputs
    from edgec.build.options import BuildOptions
    from edgec.plan.plan import Plan


@click.command()
@project_options
@click.option(
    "--all-or-nothing",
    is_flag=True,
    help="End with the first failure, and write no bundle of that target (default: build all the others).",
)
@click.option("--keep-going", is_flag=True, help="Deprecated: this is the default.")
@threads_option("of each process")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), help="Artifacts to make at once (default: what CPUs and memory allow)."
)
@click.option("--locked", is_flag=True, help="Fail when anything differs from edgec.lock, which is then not written.")
@click.option("--retime", is_flag=True, help="Take all times anew, also those of artifacts that have not changed.")
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
    retime: bool,
    check_reproducible: bool,
    depfile: Path | None,
    **given: Any,
) -> None:
    """Compile MODEL (a file, or file.py:function) to verified bundles under dist/.

    Without MODEL, the edgec.toml of this folder says what to build. Where an artifact cannot be made or misses its
    gates, the bundle has the others and says so, and the exit code is 21.
    """
    from edgec.build.depfile import write_depfile
    from edgec.build.options import BuildOptions
    from edgec.bundle.check import incomplete
    from edgec.cli.findings import EARLY, report_others
    from edgec.lock.follow import LockUse
    from edgec.plan.plan import make_plan
    from edgec.target.load import load_target

    if all_or_nothing and keep_going:
        raise UsageError("--all-or-nothing and --keep-going exclude each other", hint="leave one of them out")
    options = BuildOptions(threads, jobs, all_or_nothing, LockUse(locked), retime, check_reproducible)
    errors: list[EdgecError] = []
    plans: list[Plan] = []
    try:
        project = project_of(root, given)
        names = targets_of(project, root)
    except EdgecError as error:
        report_others(root, given, error)
        raise
    for name in names:
        try:
            plans.append(make_plan(load_target(name, root), project))
        except EdgecError as error:
            errors.append(error)
    finished: list[Bundle] = []
    if not errors:
        finished = list(_build_all(plans, root, options, errors))
    if any(isinstance(error, EARLY) for error in errors):
        report_others(root, given, next(error for error in errors if isinstance(error, EARLY)))
    errors += [incomplete(bundle.path, bundle.manifest) for bundle in finished if bundle.failures]
    if depfile is not None:
        write_depfile(depfile, [(bundle.path / "manifest.json", bundle.dependencies) for bundle in finished])
    # a target without any bundle decides the exit code
    errors.sort(key=lambda error: isinstance(error, IncompleteError))
    raise_first(errors)


def _build_all(plans: Sequence[Plan], root: Path, options: BuildOptions, errors: list[EdgecError]) -> Iterator[Bundle]:
    """Build one target after the other; the inputs of several targets are read and checked before the first one.

    Args:
        plans: one for each target.
        root: the project's folder.
        options: how to build.
        errors: receives those of targets without a bundle.
    """
    from edgec.build.unchanged import unchanged

    with terminal_console() as console, contextlib.ExitStack() as stack:
        inputs: Mapping[str, Inputs] = {}
        there = {plan.target.name: unchanged(plan, root, options) for plan in plans}
        pending = [plan for plan in plans if there[plan.target.name] is None]
        if len(pending) > 1:
            from edgec.build.inputs import shared_inputs

            with build_display(f"{len(pending)} targets", console) as display:
                inputs = stack.enter_context(shared_inputs(pending, root, threads=options.threads, subscriber=display))
        for plan in plans:
            try:
                if bundle := there[plan.target.name]:
                    yield _show_unchanged(bundle, console)
                else:
                    yield _build(plan, root, options, console, inputs.get(plan.target.name))
            except EdgecError as error:
                errors.append(error)
                if options.all_or_nothing:
                    return


def _build(plan: Plan, root: Path, options: BuildOptions, console: Console, inputs: Inputs | None) -> Bundle:
    from edgec.build.build import build_target
    from edgec.cli.show_bundle import show_bundle

    began, name = time.monotonic(), plan.target.name
    with build_display(name, console) as display:
        bundle = build_target(plan, root, options, display, inputs)
    show_bundle(bundle, console)
    if same := bundle.reproduced:
        line = f"{name}: reproducible: {same.files} files are byte for byte the same in a second build"
        say(console, f"{line}, manifest {same.manifest}")
    done = f"{name}: done in {time.monotonic() - began:.0f} s"
    if bundle.failures:
        console.print(f"{done}, INCOMPLETE bundle:", style="bold red", highlight=False)
    else:
        console.print(f"{done}, bundle:", highlight=False)
    echo(bundle.path)
    return bundle


def _show_unchanged(bundle: Bundle, console: Console) -> Bundle:
    from edgec.cli.show_bundle import show_bundle
    from edgec.cli.show_result import show_unchanged

    show_unchanged(bundle, console)
    show_bundle(bundle, console)
    name = bundle.manifest.target.name
    console.print(f"{name}: up to date, nothing that it is made from has changed; bundle:", highlight=False)
    echo(bundle.path)
    return bundle
