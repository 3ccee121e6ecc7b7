"""What a build has measured, and what failed, on the terminal: before it is decided what goes into the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from edgec.cli.console import say
from edgec.cli.tables import gate_table, measurement_table, recipe_lines, rung_table, slower_lines
from edgec.errors import GateError
from edgec.passes.coverage import Coverage
from edgec.plan.plan import Plan
from edgec.verify.records import GateResult, Measurement, RungRecord

if TYPE_CHECKING:  # an unchanged bundle is shown without what builds one
    from edgec.build.api import Bundle
    from edgec.build.artifact import FailedArtifact
    from edgec.build.result import BuildResult


LOUD = "bold red"


def show_result(plan: Plan, result: BuildResult, console: Console, *, all_or_nothing: bool) -> None:
    """Print tables of measurements and missed gates, and every failure.

    Args:
        plan: what was built.
        result: what came of it.
        console: where to; what fails is red there, if it is a terminal.
        all_or_nothing: whether one missed gate ends the build.
    """
    coverage = [gap for one in result.built for gap in one.coverage]
    _show(coverage, result.measurements, result.gates, result.rungs, plan.target.precision, console)
    for failed in _unreported(plan, result, all_or_nothing=all_or_nothing):
        say(console, str(failed), LOUD)


def show_unchanged(bundle: Bundle, console: Console) -> None:
    """Print what was measured of a bundle when it was built."""
    manifest = bundle.manifest
    rungs = [rung for one in manifest.artifacts for rung in one.rungs]
    _show(manifest.coverage, bundle.measurements, bundle.gates, rungs, manifest.target.precision, console)
    if times := sorted({item.latency.taken for item in bundle.measurements if item.latency and item.latency.taken}):
        say(console, f"times were taken at {times[0]} UTC; --retime takes them anew")


def _show(
    coverage: Sequence[Coverage],
    measurements: Sequence[Measurement],
    gates: Sequence[GateResult],
    rungs: Sequence[RungRecord],
    precision: str,
    console: Console,
) -> None:
    ranges = precision == "int8"
    for gap in coverage:
        if gap.loud:
            say(console, f"{gap.subject} {gap.state.upper()}: {gap.reason}", LOUD)
    if measurements:
        console.print(measurement_table(measurements, gates, precision, console.width))
    if any(gate.state == "failed" for gate in gates):
        console.print(gate_table(gates))
    if any(gate.state in ("failed", "short") for gate in gates):
        console.print(rung_table(rungs, ranges=ranges))
    for line in recipe_lines(rungs) if ranges else ():
        say(console, f"  {line}")
    for slower, blamed in slower_lines(measurements):
        say(console, slower, LOUD)
        for line in blamed:
            say(console, f"  {line}")
    for item in measurements:
        if item.failure:
            say(console, f"{item.artifact} in {item.runtime}: {item.failure}")
    for gate in gates:
        if gate.state == "not measured":
            reason = f"{gate.gate} {gate.limit:g}: not measured: {gate.reason}"
            say(console, f"{gate.artifact} in {gate.runtime}: {reason}")


def _unreported(plan: Plan, result: BuildResult, *, all_or_nothing: bool) -> tuple[FailedArtifact, ...]:
    """Failures that are not part of the error which ends the build."""
    from edgec.build.result import ending, without_missed

    end, failures = ending(result, plan, all_or_nothing=all_or_nothing), without_missed(result, plan).failures
    if isinstance(end, GateError):
        return ()
    return tuple(item for item in failures if item.error is not end)
