"""`edgec analyze`: which layers lose most when they are quantized."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from edgec.cli.console import say, steps, terminal_console
from edgec.cli.echo import echo
from edgec.cli.options import json_option, project_of, project_options, targets_of, threads_option
from edgec.cli.report_error import raise_first

if TYPE_CHECKING:
    from edgec.analyze.analyze import Analyzed


@click.command()
@project_options
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Evaluation samples of each cell, at most.",
)
@threads_option("of each process")
@click.option(
    "--jobs", "-j", type=click.IntRange(1), default=1, show_default=True, help="Artifacts to analyze at once."
)
@json_option
def command(root: Path, samples: int, threads: int, jobs: int, as_json: bool, **given: Any) -> None:
    """Quantize one layer at a time, and all but one, and show which layers lose most.

    Writes OUT/TARGET.analysis.json and .html. Every figure is kept in OUT/.work/cache: a run that was stopped goes on
    where it was.
    """
    from edgec.analyze.analyze import analyze_target, static_int8_target

    project = project_of(root, given)
    names = targets_of(project, root)
    for name in names:
        static_int8_target(name, root)  # a wrong one should be known before the first is analyzed
    analyzed: list[Analyzed] = []
    with terminal_console() as console:
        for name in names:
            began = time.monotonic()
            with steps(console, name, f"{name}: ") as progress:
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
                echo(one.html)
    if as_json:
        echo(json.dumps({one.analysis.target: one.analysis.plain() for one in analyzed}, indent=1))
    raise_first([error for one in analyzed for error in one.failures])


def _show(one: Analyzed, console: Console) -> None:
    from edgec.cli.sensitivity_table import reasons, sensitivity_table

    for item in one.analysis.artifacts:
        if item.failure:
            console.print(f"{item.artifact}: {item.failure}", highlight=False, markup=False, style="bold red")
            continue
        console.print(sensitivity_table(item, one.analysis.metric))
        for line in reasons(item):
            say(console, f"  {line}")
