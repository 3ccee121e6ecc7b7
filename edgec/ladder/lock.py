"""``edgec.lock``: which recipe each artifact of a project was built with, so that the next build need not search.

The file lies beside edgec.toml and belongs into version control. An entry holds for the inputs it was found with
(model, data, target, toolchain, options of the search); when any of them changes it is searched for again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

import filelock
from pydantic import Field, ValidationError

from edgec.backend.registry import package_version
from edgec.dataset.spool import Spool
from edgec.errors import ProjectError
from edgec.files import write_atomically
from edgec.frozen import Frozen, digest_json
from edgec.model.spec import FloatModel
from edgec.plan import Plan, PlannedEmit
from edgec.quant.recipe import Recipe
from edgec.target.spec import Precision
from edgec.verify.records import RungRecord

LOCK = "edgec.lock"


class LockedArtifact(Frozen):
    """The recipe of one artifact of a target, and what it was found with."""

    recipe: Recipe
    precision: Precision
    """The target's, or that of its fallback."""
    rungs: tuple[RungRecord, ...]
    """What the search tried. A build that follows the lock records it as its own: its bundle is the same."""
    inputs: dict[str, str]
    """What the search depended on, by name: digests and versions."""


class Lock(Frozen):
    """The whole file."""

    schema_version: Literal[1] = 1
    targets: dict[str, dict[str, LockedArtifact]] = Field(default_factory=dict)
    """Target name -> artifact file -> entry."""


def read_lock(root: Path) -> Lock:
    """The lock of a project, empty when there is none.

    Raises:
        ProjectError: the file is damaged, or of a newer edgec.
    """
    path = root / LOCK
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError) as exc:
        raise ProjectError(f"cannot be read: {exc}", where=str(path)) from exc
    try:
        return Lock.model_validate_json(text)
    except ValidationError as exc:
        problem = exc.errors()[0]
        raise ProjectError(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}",
            where=str(path),
            hint="restore it from version control, or delete it: the next build searches again",
        ) from None


def lock_inputs(plan: Plan, item: PlannedEmit, model: FloatModel, data: Mapping[str, Spool | None]) -> dict[str, str]:
    """Everything that the choice of an artifact's recipe depends on, by name.

    Args:
        plan: target, gates and options of the search.
        item: the artifact.
        model: as loaded.
        data: sets of samples by name, without those that the search does not read.
    """
    project = plan.project
    inputs = {
        "edgec": package_version("edgec") or "unknown",
        "target": plan.target.digest(),
        "model": model.source.digest(),
        "gates": project.gates.digest(),
        "metric": project.evaluation.metric if project.evaluation else "",
        "search": digest_json([rung.name for rung in item.ladder]),
        "seed": str(project.build.seed),
        "training": project.train.digest() if project.train else "",
    }
    inputs |= {name: spool.info.content_digest for name, spool in data.items() if spool is not None}
    packages = sorted({package.distribution for package in item.backend.packages} | {"torch", "numpy"})
    return inputs | {name: package_version(name) or "not installed" for name in packages}


def changed(entry: LockedArtifact, inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Names of what differs from when `entry` was made."""
    names = sorted({*entry.inputs, *inputs})
    return tuple(name for name in names if entry.inputs.get(name) != inputs.get(name))


def write_lock(root: Path, target: str, entries: Mapping[str, LockedArtifact], files: Collection[str]) -> None:
    """Replace entries of one target; all others stay, also those that another build writes at the same time.

    Args:
        root: the project's folder.
        target: whose entries these are.
        entries: by artifact.
        files: all artifacts that the target has; entries of others are forgotten.

    Raises:
        StorageError: the file cannot be written.
    """
    guard = Path(tempfile.gettempdir(), f"edgec-{digest_json(str(root.absolute()))[:16]}.lock")
    with filelock.FileLock(guard):
        lock = read_lock(root)
        old = {name: entry for name, entry in lock.targets.get(target, {}).items() if name in files}
        own = {**old, **entries}
        record = Lock(targets={**lock.targets, target: own})
        if record != lock:
            write_atomically(root / LOCK, json.dumps(record.plain(), indent=1, sort_keys=True) + "\n")
