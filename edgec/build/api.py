"""The Python API: `build`, the same as ``edgec build``. Importing this imports nothing else of edgec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgec.build.artifact import FailedArtifact
    from edgec.build.reproduce import Reproduced
    from edgec.bundle.manifest import Manifest
    from edgec.verify.records import GateResult, Measurement


@dataclass(frozen=True)
class Bundle:
    """A finished bundle."""

    path: Path
    manifest: Manifest
    measurements: tuple[Measurement, ...]
    gates: tuple[GateResult, ...]
    failures: tuple[FailedArtifact, ...] = ()
    """Artifacts of the target that it is made without."""
    dependencies: tuple[Path, ...] = ()
    """Every file that it was made from: model, data, target, edgec.toml."""
    reproduced: Reproduced | None = None
    """What a second build has confirmed, where that was asked for."""
    unchanged: bool = False
    """Whether it was there already, and nothing that it was made from has changed."""


def build(
    model: str | None = None,
    *,
    target: str,
    calibration: str | None = None,
    evaluation: str | None = None,
    project: str | Path = ".",
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
    jobs: int | None = None,
    all_or_nothing: bool = False,
    locked: bool = False,
    retime: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Bundle:
    """Build one target; the Python form of ``edgec build``.

    Args:
        model: model file or Python entry ``file.py:function``; None: what edgec.toml says.
        target: name of the target.
        calibration: calibration data.
        evaluation: evaluation data.
        project: folder of edgec.toml; it need not have one when `model` is given.
        settings: any other key of edgec.toml by its dotted name: ``{"gates.max_drop": 0.5}``.
        threads: CPU threads of each toolchain process.
        jobs: artifacts that are made at once; None: as many as the machine has room for (`edgec.build.room`).
        all_or_nothing: write no bundle when an artifact cannot be made or misses a gate.
        locked: fail when anything differs from edgec.lock.
        retime: take all times anew, also those of artifacts that have not changed.
        progress: receives each step.

    Returns:
        The bundle, with all artifacts of the target; all gates are met.

    Raises:
        IncompleteError: some artifacts could not be made or missed their gates; a bundle of the others was written.
        EdgecError: any other of the tree; GateError when all artifacts miss gates, LockError when something is not as
            locked.
    """
    from edgec.build.build import build_target
    from edgec.build.options import BuildOptions
    from edgec.build.unchanged import unchanged
    from edgec.bundle.check import incomplete
    from edgec.errors import ProjectError
    from edgec.events import subscriber_of
    from edgec.lock.follow import LockUse
    from edgec.plan.plan import make_plan
    from edgec.project.flags import flags
    from edgec.project.load import load_project
    from edgec.target.load import load_target
    from edgec.target.select import select_one

    values: dict[tuple[str, str], Any] = {
        ("model", "path"): model,
        ("calibration", "data"): calibration,
        ("evaluation", "data"): evaluation,
    }
    known = {flag.key for flag in flags()}
    for dotted, value in (settings or {}).items():
        table, _, key = dotted.partition(".")
        if (table, key) not in known:
            names = ", ".join(".".join(item) for item in sorted(known))
            raise ProjectError(f'no setting is called "{dotted}"', hint=f"settings: {names}")
        values[table, key] = value
    root = Path(project)
    loaded = load_project(root, values)
    plan = make_plan(load_target(select_one(target, root), root), loaded)
    options = BuildOptions(
        threads=threads, jobs=jobs, all_or_nothing=all_or_nothing, lock=LockUse(locked), retime=retime
    )

    bundle = unchanged(plan, root, options) or build_target(plan, root, options, subscriber_of(progress))
    if bundle.failures:
        raise incomplete(bundle.path, bundle.manifest)
    return bundle
