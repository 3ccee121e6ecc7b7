"""`edgec targets`: list, show one resolved with the origin of each value, check a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgec.cli.echo import echo
from edgec.errors import UsageError
from edgec.target.files import list_targets
from edgec.target.select import select, select_one


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for instance as a CI matrix.")
@click.option(
    "--project",
    "root",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Folder whose targets/ is searched first.",
)
@click.option(
    "--target", "-t", "patterns", multiple=True, metavar="NAME", help="Only this target, or a glob of several."
)
@click.option("--of-build", is_flag=True, help="Only those that [build] targets of edgec.toml names.")
@click.pass_context
def command(ctx: click.Context, as_json: bool, root: Path, patterns: tuple[str, ...], of_build: bool) -> None:
    """List the targets; or show or check one."""
    ctx.obj = root
    if ctx.invoked_subcommand is None:
        _list(root, as_json, _chosen(root, patterns, of_build=of_build))


def _chosen(root: Path, patterns: tuple[str, ...], *, of_build: bool) -> tuple[str, ...] | None:
    """Names of the targets asked for; None: all."""
    if of_build:
        from edgec.cli.options import targets_of  # reading a project needs pydantic, listing does not
        from edgec.project.load import load_project

        if patterns:
            raise UsageError("--of-build and --target exclude each other", hint="name targets, or take the project's")
        return targets_of(load_project(root), root)
    return select(patterns, root) if patterns else None


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_command(root: Path, as_json: bool) -> None:
    """List the targets, a user's own first."""
    _list(root, as_json)


def _list(root: Path, as_json: bool, names: tuple[str, ...] | None = None) -> None:
    targets = list_targets(root)
    if names is not None:
        by_name = {item.name: item for item in targets}
        targets = tuple(by_name[name] for name in names)
    if as_json:
        rows = [
            {"name": item.name, "device": item.device, "precision": item.precision, "backends": list(item.backends),
             "description": item.description, "file": str(item.file)}
            for item in targets
        ]  # fmt: skip
        echo(json.dumps(rows, indent=2))
        return
    width = max((len(item.name) for item in targets), default=0)
    for item in targets:
        backends = ", ".join(item.backends)
        echo(f"{item.name:{width}}  {item.precision:12}  {backends:30}  {item.description}".rstrip())


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the resolved target as JSON.")
@click.pass_obj
def show_command(root: Path, name: str, as_json: bool) -> None:
    """Print a resolved target with the origin of each value."""
    from edgec.target.load import load_target  # validation needs pydantic, listing does not

    name = select_one(name, root)
    resolved = load_target(name, root)
    if as_json:
        echo(json.dumps(resolved.target.model_dump(mode="json"), indent=2, sort_keys=True))
        return
    rows = list(_flatten(resolved.target.model_dump(mode="json")))
    width = max(len(f"{key} = {value}") for key, value in rows)
    for key, value in rows:
        echo(f"{f'{key} = {value}':{min(width, 70)}}  # {resolved.origin(key)}")


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for key, item in value.items() for row in _flatten(item, f"{prefix}.{key}" if prefix else key)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [row for index, item in enumerate(value) for row in _flatten(item, f"{prefix}.{index}")]
    return [(prefix, json.dumps(value))]


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def check_command(files: tuple[Path, ...]) -> None:
    """Check target files; the exit code is not 0 when one is wrong."""
    from edgec.plan.fit import check_possible
    from edgec.target.load import check_file

    for file in files:
        check_possible(check_file(file))
        echo(f"{file}: ok")
