"""`edgec validate`: how do bundles do on new samples, and are these what they were calibrated for?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgec.cli.echo import echo
from edgec.cli.options import bundles_argument, threads_option
from edgec.errors import GateError, StorageError, UsageError
from edgec.storage.files import write_atomically

if TYPE_CHECKING:
    from edgec.validate.limits import Limit
    from edgec.validate.records import Validation


@click.command()
@bundles_argument
@click.option(
    "--data",
    required=True,
    help="New samples: npz/npy file, image folder (one sub-folder a class, or none), or Python entry file.py:function.",
)
@click.option("--labels", help="Labels of the samples: array in the npz, or .npy beside the data.")
@click.option("--array", "arrays", multiple=True, metavar="INPUT=ARRAY", help="Array of the npz that feeds an input.")
@click.option("--samples", type=click.IntRange(1), help="Use at most this many, balanced by class (default: all).")
@click.option("--metric", help="In place of the bundle's own: top1, agreement, sqnr, or a Python entry.")
@click.option("--artifact", help="Run this file of the bundles only (default: all).")
@threads_option("of each runtime")
@click.option("--worst", type=click.IntRange(1), default=16, show_default=True, help="Samples to list one by one.")
@click.option(
    "--fail-on",
    "limits",
    multiple=True,
    metavar="QUANTITY=POINTS,...",
    help="Fail when an artifact has more: drop (below float), fall (below its own evaluation), disagreement (with "
    "float), drift (samples that leave calibrated ranges, over the evaluation set's share): drop=0.5,drift=5%.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page with the worst samples.")
@click.option(
    "--suggest-calibration",
    "suggest",
    metavar="NPZ",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the samples that calibration lacks, for [calibration] more.",
)
@click.option(
    "--suggest-samples", "suggested", type=click.IntRange(1), default=64, show_default=True, help="How many, at most."
)
def command(
    bundles: tuple[Path, ...],
    data: str,
    labels: str | None,
    arrays: tuple[str, ...],
    samples: int | None,
    metric: str | None,
    artifact: str | None,
    threads: int,
    worst: int,
    limits: tuple[str, ...],
    as_json: bool,
    html: Path | None,
    suggest: Path | None,
    suggested: int,
) -> None:
    """Run the artifacts of each BUNDLE on new samples, with its own preprocessing.

    Shows the metric or the agreement with float, the samples that differ most, and drift: how many samples leave the
    ranges that the artifacts were calibrated for. Digests are checked first; but models of unknown origin are run, for
    which runtimes are not made.
    """
    from edgec.cli.console import steps, terminal_console
    from edgec.project.spec import DataSpec
    from edgec.storage.own_folder import new_log
    from edgec.validate.limits import parse_limits
    from edgec.validate.sides import read_sides
    from edgec.validate.validate import Options, validate

    parsed = parse_limits(limits)
    spec = DataSpec(data=data, labels=labels, inputs=_arrays(arrays))
    options = Options(samples, metric, threads, worst, suggest, suggested)
    sides = read_sides(bundles, artifact)
    with terminal_console() as console, steps(console, "validate") as progress:
        validation = validate(sides, spec, options, new_log("validate"), progress)
    if html is not None:
        from edgec.validate.page import render_validation

        _write(html, render_validation(validation.validation, validation.inputs))
    _show(validation.validation, as_json=as_json)
    if suggest is not None:
        line = f"{validation.suggested} samples that leave calibrated ranges, for [calibration] more: {suggest}"
        none = f"no sample leaves a calibrated range: {suggest} is not written"
        echo(line if validation.suggested else none, err=as_json)
    _judge(validation.validation, parsed)


def _arrays(texts: tuple[str, ...]) -> dict[str, str]:
    validation = {}
    for text in texts:
        name, equals, array = text.partition("=")
        if not (name and equals and array):
            raise UsageError(f'"{text}" is not INPUT=ARRAY', where="--array")
        validation[name] = array
    return validation


def _show(validation: Validation, *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(validation.plain(), indent=1, sort_keys=True))
        return
    from edgec.cli.console import SafeConsole
    from edgec.cli.validation_tables import show_validation

    show_validation(validation, SafeConsole())


def _judge(validation: Validation, limits: tuple[Limit, ...]) -> None:
    from edgec.validate.limits import misses

    if missed := misses(validation, limits):
        lines = "".join(f"\n  {miss}" for miss in missed)
        count = f"{len(missed)} limit{'s' if len(missed) > 1 else ''}"
        hint = (
            "look at the samples that differ most (--html); --suggest-calibration writes those that calibration lacks"
        )
        raise GateError(f"{count} of --fail-on not held{lines}", where=validation.data, hint=hint)


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, text)
    except OSError as exc:
        raise StorageError(f"cannot be written: {exc.strerror or exc}", where=str(file)) from exc
