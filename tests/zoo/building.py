"""Building one project for one target, with what became of each artifact."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.build.build import build_target
from edgec.build.events import ArtifactsMeasured
from edgec.build.options import BuildOptions
from edgec.build.result import BuildResult
from edgec.errors import EdgecError
from edgec.events import Event, Step
from edgec.plan.plan import make_plan
from edgec.project.load import load_project
from edgec.target.load import load_target

from .macs import int8_share


@dataclass(frozen=True)
class Outcome:
    """One artifact: built, or refused."""

    artifact: str
    seconds: float
    """From its first step to the next artifact's."""
    sqnr_db: float | None = None
    """The worst output in the worst judged runtime; None when it was refused."""
    int8_share: float | None = None
    """Of multiply-accumulates, 0 to 1; None when it was refused or multiplies no matrices."""
    refusal: str = ""
    """What edgec says; empty when it was built."""


def build_project(project: Path, target: str, settings: Mapping[tuple[str, str], Any]) -> tuple[Outcome, ...]:
    """Build all artifacts of a target, one after the other.

    Args:
        project: its folder.
        target: its name.
        settings: keys of edgec.toml.
    """
    plan = make_plan(load_target(target, project), load_project(project, settings))
    files = [item.file for item in plan.emits]
    began: dict[str, float] = {}
    outcomes: dict[str, Outcome] = {}

    def seconds(file: str) -> float:
        begins = [*began.values(), time.perf_counter()]
        place = list(began).index(file) if file in began else len(began) - 1
        return begins[place + 1] - begins[place]

    def subscriber(event: Event) -> None:
        match event:
            case Step(text) if (file := text.partition(":")[0]) in files:
                began.setdefault(file, time.perf_counter())
            case ArtifactsMeasured(result=result):
                outcomes.update(_outcomes(result, seconds))

    try:
        build_target(plan, project, BuildOptions(jobs=1), subscriber)
    except EdgecError as error:
        for file in files:
            outcomes.setdefault(file, Outcome(file, seconds(file) if began else 0.0, refusal=str(error)))
    return tuple(outcomes[file] for file in files)


def _outcomes(result: BuildResult, seconds: Callable[[str], float]) -> dict[str, Outcome]:
    """Outcomes by file.

    Args:
        result: of the build.
        seconds: that an artifact took, by its file.
    """
    outcomes = {
        item.file: Outcome(item.file, seconds(item.file), refusal=str(item.error)) for item in result.failures
    }  # fmt: skip
    sample = list(result.prepared.inputs.evaluation[0].values())
    for one in result.built:
        file = one.artifact.file
        values = [item.sqnr_db() for item in one.measurements if item.judged]
        sqnr = min((float("-inf") if value is None else value for value in values), default=None)
        outcomes[file] = Outcome(file, seconds(file), sqnr, int8_share(one.file, sample))
    return outcomes
