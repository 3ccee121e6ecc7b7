"""``edgec.lock``: what the targets of a project were last built from, and which recipe each artifact got.

The file lies beside edgec.toml and belongs into version control. A build follows its recipes without searching while
what they were chosen for is the same; `edgec build --locked` fails when anything at all differs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from edgec.errors import ProjectError
from edgec.frozen import Frozen, first_problem
from edgec.quant.recipe import Recipe
from edgec.storage.files import write_atomically
from edgec.storage.guard import guarded
from edgec.target.spec import Precision
from edgec.verify.records import RungRecord

LOCK = "edgec.lock"
RESTORE = "restore it from version control, or delete it: the next build searches again"
"""What to do about a damaged file."""


class LockedArtifact(Frozen):
    """The recipe of one artifact of a target."""

    recipe: Recipe
    precision: Precision
    """The target's, or that of its fallback."""
    rungs: tuple[RungRecord, ...]
    """What the search tried. A build that follows the lock records it as its own: its bundle is the same."""


class LockedTarget(Frozen):
    """One target as it was last built."""

    inputs: dict[str, str]
    """What it was built from, by name: digests, versions and settings (`edgec.lock.inputs`)."""
    artifacts: dict[str, LockedArtifact]
    """By file name."""


class Lock(Frozen):
    """The whole file."""

    schema_version: Literal[2] = 2
    targets: dict[str, LockedTarget] = Field(default_factory=dict)


class OldLock(Frozen):
    """A file of an earlier edgec, which kept recipes only where there was a choice."""

    schema_version: Literal[1]
    targets: dict[str, Any]


def read_lock(file: Path) -> Lock | OldLock:
    """What `file` says; an empty lock when it does not exist.

    Raises:
        ProjectError: the file is damaged, or of a newer edgec.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock()
    except (OSError, UnicodeDecodeError) as exc:
        raise ProjectError(f"cannot be read: {exc}", where=str(file)) from exc
    try:
        content = json.loads(text)
        old = isinstance(content, dict) and content.get("schema_version") == 1
        return (OldLock if old else Lock).model_validate_json(text)
    except ValidationError as exc:
        what = first_problem(exc)
    except ValueError as exc:
        what = f"this is not JSON: {exc}"
    except RecursionError:
        what = "its lists and tables are nested too deeply to be read"
    raise ProjectError(what, where=str(file), hint=RESTORE)


def write_lock(
    root: Path,
    target: str,
    inputs: Mapping[str, str],
    entries: Mapping[str, LockedArtifact],
    files: Collection[str],
) -> None:
    """Replace entries of one target; other targets stay, also those that another build writes at the same time.

    Args:
        root: the project's folder.
        target: whose entries these are.
        inputs: what it was built from.
        entries: by artifact.
        files: all artifacts that the target has. An entry of one that was not built this time stays when it is of
            the same inputs; all others are forgotten.

    Raises:
        StorageError: the file cannot be written, or something that is not edgec's is in the place of its guard.
    """
    with guarded(root / f".{LOCK}.guard"):
        lock = read_lock(root / LOCK)
        targets = lock.targets if isinstance(lock, Lock) else {}
        before = targets.get(target)
        kept = before.artifacts if before is not None and before.inputs == inputs else {}
        artifacts = {name: entry for name, entry in kept.items() if name in files} | dict(entries)
        record = Lock(targets={**targets, target: LockedTarget(inputs=dict(inputs), artifacts=artifacts)})
        if record != lock:
            write_atomically(root / LOCK, _text(record))


def _text(lock: Lock) -> str:
    """The file; values that have their default are omitted."""
    record = json.loads(lock.model_dump_json(exclude_defaults=True)) | {"schema_version": 2}
    return json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
