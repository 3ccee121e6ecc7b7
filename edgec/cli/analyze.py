"""`edgec analyze`: which layers lose most when they are quantized."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgec.cli.options import project_of, project_options, targets_of
from edgec.cli.report_error import report_error

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.analyze.analyze import Analyzed
    from edgec.errors import EdgecError

LOG_WIDTH = 160
"""Columns of tables that go to a file or a pipe, as in CI."""


@click.command()
@project_options
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Evaluation samples of each cell, at most.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPU threads of each process.")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), default=1, show_default=True, help="Artifacts to analyze at once."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, samples: int, threads: int, jobs: int, as_json: bool, **given: Any) -> None:
    """Quantize one layer at a time, and all but one, and show which layers lose most.

    Writes OUT/TARGET.analysis.json and .html. Every figure is kept in OUT/.work/cache: a run that was stopped goes on
    where it was.
    """
    from rich.console import Console

    from edgec.analyze.analyze import analyze_target, static_int8_target
    from edgec.workers.log import terminal

    project = project_of(root, given)
    names = targets_of(project, root)
    for name in names:
        static_int8_target(name, root)  # a wrong one should be known before the first is analyzed
    analyzed: list[Analyzed] = []
    with terminal() as stream:
        console = Console(file=stream, width=None if stream.isatty() else LOG_WIDTH)
        for name in names:
            began = time.monotonic()
            with console.status(name) as status:

                def progress(step: str, name: str = name) -> None:
                    status.update(f"{name}: {step}")  # called while this status is open
                    if not console.is_terminal:
                        console.print(f"{name}: {step}", highlight=False, markup=False, soft_wrap=True)

                one = analyze_target(
                    name, project, root, samples=samples, threads=threads, jobs=jobs, progress=progress
                )
            analyzed.append(one)
            if not as_json:
                _show(one, console)
            console.print(
                f"{name}: {one.computed} cells computed, {one.cached} cached, in {time.monotonic() - began:.0f} s",
                highlight=False,
            )
            if not as_json:
                click.echo(one.html)
    if as_json:
        click.echo(json.dumps({one.analysis.target: one.analysis.plain() for one in analyzed}, indent=1))
    failures: list[EdgecError] = [error for one in analyzed for error in one.failures]
    for other in failures[1:]:
        report_error(other)
    if failures:
        raise failures[0]


def _show(one: Analyzed, console: Console) -> None:
    from edgec.cli.sensitivity_table import reasons, sensitivity_table

    for item in one.analysis.artifacts:
        if item.failure:
            console.print(f"{item.artifact}: {item.failure}", highlight=False, markup=False, style="bold red")
            continue
        console.print(sensitivity_table(item, one.analysis.metric))
        for line in reasons(item):
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
