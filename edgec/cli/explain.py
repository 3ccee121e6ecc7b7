"""`edgec explain`: the plan of a build, without building."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgec.cli.echo import echo
from edgec.cli.options import json_option, project_of, project_options, targets_of
from edgec.plan.plan import Plan, make_plan, record, without_toolchain
from edgec.target.load import load_target


@click.command()
@project_options
@json_option
def command(root: Path, as_json: bool, **given: Any) -> None:
    """Print what `edgec build` would do, from the same plan."""
    project = project_of(root, given)
    plans = [make_plan(load_target(name, root), project) for name in targets_of(project, root)]
    if as_json:
        echo(json.dumps({plan.target.name: record(plan).model_dump(mode="json") for plan in plans}, indent=2))
        return
    for plan in plans:
        echo("\n".join(_lines(plan)))


def _lines(plan: Plan) -> list[str]:
    target, data = plan.target, record(plan)
    lines = [f"{target.name}: {target.precision} for {target.device.name} ({target.device.description})"]
    lines.append(f"  model        {plan.project.model.path}")
    if plan.calibration_samples is not None and plan.project.calibration:
        count, data_source = plan.calibration_samples, plan.project.calibration.data
        lines.append(f"  calibration  up to {count} samples of {data_source}, balanced by class where it has labels")
    if plan.project.evaluation:
        lines.append(f"  evaluation   {plan.project.evaluation.data}, metric {plan.project.evaluation.metric}")
    lines.append("  portable passes")
    lines += [f"    {_step(step)}" for step in data.portable]
    missing = without_toolchain(plan)
    for artifact in data.artifacts:
        lines.append(f"  {artifact['file']} ({artifact['backend']})")
        if error := missing.get(artifact["file"]):
            lines.append(f"    cannot be made here: {error.what}; {error.hint}")
        if len(artifact["ladder"]) > 1:
            lines.append(f"    until the gates are met: {', '.join(artifact['ladder'])}")
        lines += [f"    {_step(step)}" for step in artifact["passes"]]
        lines.append(f"    verify in {', '.join(artifact['runtimes'])}")
    return lines


def _step(step: dict[str, Any]) -> str:
    options = ", ".join(f"{key}={value}" for key, value in step["options"].items())
    return f"{step['name']} ({options})" if options else str(step["name"])
