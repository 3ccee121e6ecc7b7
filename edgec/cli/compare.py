"""`edgec compare`: is a bundle worse than the one before?"""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo


@click.command()
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--fail-on",
    "limits",
    multiple=True,
    metavar="QUANTITY=LIMIT,...",
    help="Fail when NEW is worse by more: accuracy, agreement (points), size (KiB), latency (ms), memory (MB); or "
    "a percentage: accuracy=0.5,latency=10%,size=5%.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of Markdown.")
@click.option(
    "--summary",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append the Markdown to this file as well ($GITHUB_STEP_SUMMARY).",
)
@click.option("--allow-other-data", is_flag=True, help="Evaluated on other data, accuracy may go without comparison.")
@click.option(
    "--allow-other-machine", is_flag=True, help="Measured on another machine, times may go without comparison."
)
@click.option("--allow-other-target", is_flag=True, help="Compare bundles of different targets.")
def command(
    old: Path,
    new: Path,
    limits: tuple[str, ...],
    as_json: bool,
    summary: Path | None,
    allow_other_data: bool,
    allow_other_machine: bool,
    allow_other_target: bool,
) -> None:
    """Compare bundle NEW with OLD: accuracy, size, latency, memory, coverage, recipes and toolchain."""
    import json

    from edgec.compare.changes import Cause
    from edgec.compare.comparison import compare
    from edgec.compare.judge import judge
    from edgec.compare.limits import parse_limits
    from edgec.compare.markdown import to_markdown
    from edgec.compare.side import read_side
    from edgec.errors import RegressionError, StorageError

    parsed = parse_limits(limits)
    comparison = compare(read_side(old), read_side(new), allow_other_target=allow_other_target)
    allowed: list[Cause] = ["data"] if allow_other_data else []
    allowed += ["machine"] if allow_other_machine else []
    regressions = judge(comparison, parsed, allowed)
    markdown = to_markdown(comparison, parsed, regressions)
    if as_json:
        records = [item.plain() for item in regressions]
        echo(json.dumps({**comparison.plain(), "regressions": records}, indent=1, sort_keys=True))
    else:
        echo(markdown, nl=False)
    if summary is not None:
        try:
            with summary.open("a", encoding="utf-8") as stream:
                stream.write(markdown)
        except OSError as exc:
            raise StorageError(f"cannot be appended to: {exc.strerror or exc}", where=str(summary)) from exc
    if regressions:
        count = f"{len(regressions)} regression{'s' if len(regressions) > 1 else ''}"
        lines = "\n  ".join(str(item) for item in regressions)
        causes = {item.cause for item in regressions}
        flags = [f"--allow-other-{name}" for name in ("data", "machine") if name in causes]
        hint = f"if this is meant, allow more with {' or '.join(['--fail-on', *flags])}"
        raise RegressionError(f"{count} against {old}\n  {lines}", where=str(new), hint=hint)
