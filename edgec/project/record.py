"""What of a project its bundles record: settings and code, without where anything lies."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path, PurePath
from typing import Any

from edgec.project.flags import PATH_KEYS
from edgec.project.load import PROJECT_FILE, split_entry
from edgec.project.spec import Project


def told_path(path: str) -> str:
    """A path of the project (or ``file.py:function``) as bundles tell it: of one that leads out of it the last part."""
    file, function = split_entry(path) or (path, "")
    plain = PurePath(os.path.normpath(file))
    shown = plain.name if plain.is_absolute() or plain.parts[:1] == ("..",) else plain.as_posix()
    return f"{shown}:{function}" if function else shown


def settings(project: Project) -> dict[str, Any]:
    """All keys as they were resolved, as JSON values, but ``build.out`` and ``build.targets``."""
    values: dict[str, Any] = project.plain()
    for key in ("out", "targets"):
        del values["build"][key]
    for table, key in PATH_KEYS:
        if values[table] and values[table][key]:
            values[table][key] = told_path(values[table][key])
    return values


def code_digests(project: Project, root: Path) -> dict[str, str]:
    """SHA-256 (hex) of each Python file that metric, loss or training function are in, by its path as it is told."""
    named = [project.evaluation.metric] if project.evaluation else []
    named += [project.train.loss, project.train.function or ""] if project.train else []
    found = {}
    for entry in filter(None, map(split_entry, named)):
        with contextlib.suppress(OSError):  # whoever loads it tells it better
            found[told_path(entry[0])] = hashlib.sha256((root / entry[0]).read_bytes()).hexdigest()
    return found


def project_file_digest(root: Path) -> str:
    """SHA-256 (hex) of the bytes of edgec.toml; empty when there is none."""
    file = root / PROJECT_FILE
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""
