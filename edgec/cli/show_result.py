"""What a build has measured, and what failed, on the terminal: before it is decided what goes into the bundle."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from edgec.build.artifact import FailedArtifact
from edgec.build.result import BuildResult, ending, without_missed
from edgec.cli.console import say
from edgec.cli.tables import gate_table, measurement_table, recipe_lines, rung_table, slower_lines
from edgec.errors import GateError
from edgec.plan.plan import Plan


def show_result(plan: Plan, result: BuildResult, console: Console, *, all_or_nothing: bool) -> None:
    """Print tables of measurements and missed gates, and every failure.

    Args:
        plan: what was built.
        result: what came of it.
        console: where to; what fails is red there, if it is a terminal.
        all_or_nothing: whether one missed gate ends the build.
    """
    plain, loud = partial(say, console), partial(say, console, style="bold red")
    measurements, rungs, ranges = result.measurements, result.rungs, plan.target.precision == "int8"
    for gap in (gap for one in result.built for gap in one.coverage if gap.loud):
        loud(f"{gap.subject} {gap.state.upper()}: {gap.reason}")
    if measurements:
        console.print(measurement_table(measurements, result.gates, plan.target.precision, console.width))
    if any(gate.state == "failed" for gate in result.gates):
        console.print(gate_table(result.gates))
    if any(gate.state in ("failed", "short") for gate in result.gates):
        console.print(rung_table(rungs, ranges=ranges))
    for line in recipe_lines(rungs) if ranges else ():
        plain(f"  {line}")
    for slower, blamed in slower_lines(measurements):
        loud(slower)
        for line in blamed:
            plain(f"  {line}")
    for item in measurements:
        if item.failure:
            plain(f"{item.artifact} in {item.runtime}: {item.failure}")
    for gate in result.gates:
        if gate.state == "not measured":
            plain(f"{gate.artifact} in {gate.runtime}: {gate.gate} {gate.limit:g}: not measured: {gate.reason}")
    for failed in _unreported(plan, result, all_or_nothing=all_or_nothing):
        loud(str(failed))


def _unreported(plan: Plan, result: BuildResult, *, all_or_nothing: bool) -> tuple[FailedArtifact, ...]:
    """Failures that are not part of the error which ends the build."""
    end, failures = ending(result, plan, all_or_nothing=all_or_nothing), without_missed(result, plan).failures
    if isinstance(end, GateError):
        return ()
    return tuple(item for item in failures if item.error is not end)
