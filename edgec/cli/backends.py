"""`edgec backends`: what can be emitted here, with versions and what is missing."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from edgec.backends.registry import backend_names, get_backend, install_command, missing_packages, package_version
from edgec.cli.console import SafeConsole
from edgec.cli.echo import echo
from edgec.cli.options import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """List backends, the packages they use with versions, and what is missing."""
    rows: list[dict[str, Any]] = []
    for name in backend_names():
        backend = get_backend(name)
        needed = {precision: missing_packages(backend, precision) for precision in backend.precisions}
        missing = tuple(dict.fromkeys(name for names in needed.values() for name in names))
        rows.append(
            {
                "name": name,
                "format": backend.format.name,
                "precisions": list(backend.precisions),
                "packages": {item.distribution: package_version(item.distribution) for item in backend.packages},
                "missing": list(missing),
                "unavailable": [precision for precision, names in needed.items() if names],
                "no_wheel": [item.no_wheel for item in backend.packages if item.no_wheel],
                "install": install_command(backend, missing) if missing else "",
                "own_quantizer": backend.own_quantizer,
            }
        )
    if as_json:
        echo(json.dumps(rows, indent=2))
        return
    table = Table("backend", "format", "precisions", "packages", "state", box=None, pad_edge=False)
    for row in rows:
        packages = ", ".join(f"{name} {version or '-'}" for name, version in row["packages"].items())
        state = "ready"
        if row["missing"]:
            lost = "" if row["unavailable"] == row["precisions"] else f" (for {', '.join(row['unavailable'])})"
            state = f"missing: {', '.join(row['missing'])}{lost}; {row['install']}"
        state = "; ".join([state, *row["no_wheel"]])
        table.add_row(row["name"], row["format"], " ".join(row["precisions"]), packages, escape(state))
    console = SafeConsole()
    console.print(table)
    for row in rows:
        if row["own_quantizer"]:
            console.print(f"{row['name']}: {row['own_quantizer']}")
