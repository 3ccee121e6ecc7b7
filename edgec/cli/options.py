"""Options that several verbs share: the project folder, targets, and a flag for every key of edgec.toml."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgec.errors import ProjectError
from edgec.project.flags import Flag, flags
from edgec.project.load import load_project
from edgec.project.spec import Project
from edgec.target.select import select

_TYPES: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}

LONGEST_TIMEOUT = 86400.0
"""Seconds; more than any user waits, within what sockets and locks accept."""
MOST_RETRIES = 1000

Command = Callable[..., Any]


class _Seconds(click.FloatRange):
    """A number of seconds above 0; click's own range lets nan pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType.convert`."""
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


project_option = click.option(
    "--project", "root", type=click.Path(path_type=Path, file_okay=False), default=Path(),
    help="Folder of edgec.toml (default: this one).",
)  # fmt: skip
"""The project's folder, as ``root``."""
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""``--json``, as ``as_json``."""
bundles_argument = click.argument(
    "bundles", metavar="BUNDLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
"""At least one bundle, as ``bundles``."""
out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"), show_default=True,
    help="Folder for bundles.",
)  # fmt: skip
"""The folder that bundles are put into, as ``out``."""
incomplete_option = click.option(
    "--allow-incomplete", is_flag=True, help="Take a bundle too that lacks artifacts of its target."
)
"""``--allow-incomplete``, as ``allow_incomplete``."""


def project_options(function: Command) -> Command:
    """MODEL, ``--project`` and every project key as a flag; the function gets them as keyword arguments."""
    for flag in reversed(list(flags())):
        function = _option(flag)(function)
    return project_option(function)


def threads_option(what: str) -> Callable[[Command], Command]:
    """``--threads``, 1 by default, as ``threads``; `what` ends its help: ``of each process``."""
    return click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help=f"CPU threads {what}.")


def keys_option(metavar: str, text: str) -> Callable[[Command], Command]:
    """``--key``, several times, as ``keys``; with its help."""
    return click.option("--key", "keys", metavar=metavar, multiple=True, type=click.Path(path_type=Path), help=text)


def retry_options(function: Command) -> Command:
    """``--timeout`` and ``--retries`` of network locations; keyword arguments of those names."""
    function = click.option(
        "--retries", type=click.IntRange(0, MOST_RETRIES), default=4, show_default=True,
        help="Tries after a broken connection.",
    )(function)  # fmt: skip
    return click.option(
        "--timeout", type=_Seconds(0, LONGEST_TIMEOUT, min_open=True), default=30.0, show_default=True,
        metavar="SECONDS", help="Silence after which a connection counts as broken.",
    )(function)  # fmt: skip


def _option(flag: Flag) -> Callable[[Command], Command]:
    name = _name(flag)
    if flag.flag == "MODEL":
        return click.argument(name, metavar="[MODEL]", required=False)
    short = ("-t",) if flag.flag == "--target" else ()
    text = flag.help[0].upper() + flag.help[1:] + "."
    if flag.kind == "switch":
        return click.option(flag.flag, name, is_flag=True, default=None, help=text)
    return click.option(
        flag.flag, *short, name, type=_TYPES.get(flag.kind), multiple=flag.repeated, metavar=flag.form, help=text
    )


def _name(flag: Flag) -> str:
    return "key_" + "_".join(flag.key)


def project_of(root: Path, given: dict[str, Any]) -> Project:
    """The project with the flags of `project_options` applied."""
    return load_project(root, flag_values(given))


def flag_values(given: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Project key -> value, of the flags of `project_options` that were given."""
    return {flag.key: flag.parse(value) for flag in flags() if (value := given[_name(flag)]) not in (None, ())}


def targets_of(project: Project, root: Path) -> tuple[str, ...]:
    """Names of the targets asked for, globs expanded."""
    if not project.build.targets:
        raise ProjectError("no target is named", hint="edgec build --target rpi4-int8; `edgec targets` lists them")
    return select(project.build.targets, root)
