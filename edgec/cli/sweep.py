"""`edgec sweep`: prune levels x precisions x calibration methods x targets, as a table with its Pareto front."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgec.cli.console import say, steps, terminal_console
from edgec.cli.echo import echo
from edgec.cli.options import json_option, project_of, project_options, targets_of, threads_option
from edgec.cli.report_error import raise_first
from edgec.errors import UsageError
from edgec.quant.recipe import RANGE_METHODS
from edgec.target.spec import PRECISIONS, PruneSpec
from edgec.toml_source import suggest

if TYPE_CHECKING:
    from edgec.sweep.run import Swept
    from edgec.sweep.variants import Levels

Value = TypeVar("Value")


@click.command()
@project_options
@click.option("--prune", metavar="N[,N...]", help="Shares to prune, 0 to 0.95 (default: the target's).")
@click.option("--precision", metavar="NAME[,...]", help="fp32, fp16, int8, ... (default: the target's).")
@click.option("--method", metavar="NAME[,...]", help="Calibration methods: auto, minmax, ... (default: the target's).")
@click.option("--workers", "-j", type=click.IntRange(1), help="Cells at once (default: what CPUs and memory allow).")
@click.option("--memory", type=click.IntRange(1), metavar="MB", help="Memory for all workers (default: what is free).")
@threads_option("of each process")
@click.option("--scheduler", metavar="tcp://HOST:8786", help="Make the cells on this Dask cluster instead.")
@click.option("--pick", metavar="RULE", help='Choose a point: "accuracy>=0.90, size<=100, min latency".')
@click.option("--save", metavar="NAME", help="Name of the target that the chosen point is written as.")
@json_option
def command(
    root: Path,
    prune: str | None,
    precision: str | None,
    method: str | None,
    workers: int | None,
    memory: int | None,
    threads: int,
    scheduler: str | None,
    pick: str | None,
    save: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Make and measure all combinations, and show what is best for what.

    Writes OUT/sweep.json and .html; prints a Markdown table. Every cell is kept in OUT/.work/sweep: a sweep that was
    stopped goes on where it was, one that is extended makes only what is new. Gates do not apply.
    """
    from edgec.sweep.making import Options
    from edgec.sweep.page import markdown_table
    from edgec.sweep.run import sweep_targets
    from edgec.sweep.save import swept_targets

    levels = _levels(prune, precision, method)
    project = project_of(root, given)
    names = swept_targets(targets_of(project, root), project.build.targets, root)
    options = Options(threads=threads, workers=workers, memory_mb=memory, scheduler=scheduler)
    began = time.monotonic()
    with terminal_console() as console:
        with steps(console, "sweep", "sweep: ") as progress:
            swept = sweep_targets(
                names, project, root, levels=levels, options=options, rule=pick, save=save, progress=progress
            )
        if as_json:
            echo(json.dumps(swept.sweep.plain(), indent=1))
        elif swept.sweep.points:
            echo(markdown_table(swept.sweep.points))
        for line in _lines(swept):
            say(console, line)
        seconds = time.monotonic() - began
        console.print(
            f"{swept.computed} cells computed, {swept.cached} cached, in {seconds:.1f} s: {swept.html}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    raise_first(swept.failures)


def _lines(swept: Swept) -> list[str]:
    lines = []
    for item in swept.sweep.unmade:
        parts = (item.target, f"prune {item.prune:g}", item.precision, item.method, item.artifact)
        state = "failed" if item.possible else "impossible"
        lines.append(f"{' '.join(part for part in parts if part)}: {state}: {item.reason}")
    for point in swept.sweep.points:
        lines += [f"{point.label}: {note}" for note in ((point.failure,) if point.failure else ()) + point.notes]
    if swept.saved is not None:
        chosen = next(point for point in swept.sweep.points if point.chosen)
        lines.append(f"picked {chosen.label}: {swept.saved}: edgec build --target {swept.sweep.saved}")
    return lines


def _levels(prune: str | None, precision: str | None, method: str | None) -> Levels:
    from edgec.sweep.variants import Levels

    return Levels(
        prune=_values("--prune", prune, _share),
        precision=_values("--precision", precision, lambda text: _one_of("--precision", text, PRECISIONS)),
        method=_values("--method", method, lambda text: _one_of("--method", text, ("auto", *RANGE_METHODS))),
    )


def _values(option: str, text: str | None, parse: Callable[[str], Value]) -> tuple[Value, ...]:
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f'"{text}" has an empty value', where=option)
    return tuple(dict.fromkeys(parse(part) for part in parts))


def _share(text: str) -> float:
    try:
        return PruneSpec(amount=float(text)).amount
    except ValueError:  # of a number, or pydantic's of the range
        raise UsageError(f'"{text}" is not a share from 0 to 0.95', where="--prune", hint="--prune 0,0.3,0.5") from None


def _one_of(option: str, text: str, known: Sequence[Value]) -> Value:
    if text not in known:
        names = [str(name) for name in known]
        raise UsageError(
            f'no such value: "{text}"', where=option, hint=suggest(text, names) or f"known: {', '.join(names)}"
        )
    return known[known.index(text)]
