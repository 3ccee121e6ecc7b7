"""`edgec check`: every problem of a project at once, in seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edgec.cli.console import console_on, say
from edgec.cli.echo import echo
from edgec.cli.options import flag_values, json_option, project_options, threads_option


@click.command()
@project_options
@threads_option("of the float model")
@json_option
@click.pass_context
def command(ctx: click.Context, /, root: Path, threads: int, as_json: bool, **given: Any) -> None:
    """Find every problem of MODEL and its data for the targets, without building anything.

    Opens model and data, compares them with each other and with what the targets' artifacts can hold, and runs the
    float model on some samples. The exit code is that of the first error; with warnings alone it is 0.
    """
    from edgec.check.run import check

    report = check(root, flag_values(given), threads=threads)
    if as_json:
        severities = [item.severity for item in report.findings]
        counts = {"errors": severities.count("error"), "warnings": severities.count("warning")}
        echo(json.dumps({**report.plain(), **counts, "exit_code": report.exit_code}, indent=1, ensure_ascii=False))
    else:
        _show(report)
    ctx.exit(report.exit_code)


def _show(report: Any) -> None:
    from edgec.cli.findings import counted, show_by_kind

    console = console_on(sys.stdout)
    show_by_kind(report.findings, console)
    if report.looked_at:
        say(console, report.looked_at)
    line = f"{', '.join(report.targets) or 'no target'}: {counted(report.findings)}, in {report.seconds:.1f} s"
    if report.samples_run:
        line += f"; the float model was run on {report.samples_run} samples"
    say(console, line)
