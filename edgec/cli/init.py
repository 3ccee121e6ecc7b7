"""`edgec init`: write the job that builds, compares and publishes this project in CI."""

from __future__ import annotations

from pathlib import Path

import click

from edgec.cli.echo import echo
from edgec.cli.options import project_option
from edgec.errors import ProjectError


@click.command()
@click.option(
    "--ci", "kind", required=True, type=click.Choice(("github", "gitlab", "make")),
    help="What to write: .github/workflows/edgec.yml, .gitlab-ci.yml or Makefile.",
)  # fmt: skip
@click.option(
    "--target", "-t", "patterns", multiple=True, metavar="NAME",
    help="Target to build, or a glob of several (default: [build] targets of edgec.toml).",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@project_option
def command(kind: str, patterns: tuple[str, ...], force: bool, root: Path) -> None:
    """Write a CI job: build each target, check its gates, compare it with the published one, publish on a tag."""
    from edgec.backends.registry import package_version
    from edgec.project.load import load_project
    from edgec.publish.ci.write import KINDS, TABLE, write_ci
    from edgec.target.load import load_target
    from edgec.target.select import select

    project = load_project(root)
    if not (patterns or project.build.targets):
        hint = 'set [build] targets = ["rpi4-int8"] in edgec.toml, or give --target rpi4-int8'
        raise ProjectError("no target is named", where=str(root / "edgec.toml"), hint=hint)
    (chosen,) = (item for item in KINDS if item == kind)
    names = select(patterns or project.build.targets, root)
    for name in names:
        load_target(name, root)  # reports invalid targets, whose names would get into the job's file
    version = package_version("edgec") or "unknown"
    path = write_ci(chosen, root, patterns=patterns, names=names, version=version, force=force)
    echo(path)
    echo(f"It builds {', '.join(names)}. Next steps:", err=True)
    for step in TABLE[chosen].todo:
        echo(f"  - {step}", err=True)
