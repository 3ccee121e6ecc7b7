"""Building one project for one target, with what became of each artifact."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.build.build import build_target
from edgec.build.run import BuildResult
from edgec.errors import EdgecError
from edgec.plan.plan import Plan, make_plan
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
    loaded = load_project(project, settings)
    files = [item.file for item in make_plan(load_target(target, project), loaded).emits]
    began: dict[str, float] = {}
    found: dict[str, Outcome] = {}

    def progress(step: str) -> None:
        file = step.partition(":")[0]
        if file in files:
            began.setdefault(file, time.perf_counter())

    def seconds(file: str) -> float:
        begins = [*began.values(), time.perf_counter()]
        place = list(began).index(file) if file in began else len(began) - 1
        return begins[place + 1] - begins[place]

    def listener(plan: Plan, result: BuildResult) -> None:
        for item in result.failures:
            found[item.file] = Outcome(item.file, seconds(item.file), refusal=str(item.error))
        sample = list(result.data.evaluation[0].values())
        for one in result.built:
            file = one.artifact.file
            values = [item.sqnr_db() for item in one.measurements if item.judged]
            sqnr = min((float("-inf") if value is None else value for value in values), default=None)
            found[file] = Outcome(file, seconds(file), sqnr, int8_share(one.file, sample))

    try:
        build_target(
            target, loaded, project, threads=1, jobs=1, all_or_nothing=False, progress=progress, listener=listener
        )
    except EdgecError as error:
        for file in files:
            found.setdefault(file, Outcome(file, seconds(file) if began else 0.0, refusal=str(error)))
    return tuple(found[file] for file in files)
