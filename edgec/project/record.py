"""What of a project its bundles record: settings and code, without where anything lies."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from edgec.frozen import canonical_json
from edgec.project.flags import PATH_KEYS
from edgec.project.imports import neighbours
from edgec.project.load import PROJECT_FILE, split_entry
from edgec.project.spec import Project
from edgec.storage.files import sha256_of


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
            value = values[table][key]
            values[table][key] = told_path(value) if isinstance(value, str) else [told_path(item) for item in value]
    return values


def flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Values by dotted name, as canonical JSON: ``("gates.max_drop", "1.0")``."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", canonical_json(value)


def told_beside(file: str, names: Iterable[str]) -> dict[str, str]:
    """How files that `file` imports are told, by name: as they lie beside it, wherever that is."""
    told, folder = PurePath(told_path(file)).parent, PurePath(file).parent
    return {name: (told / PurePath(name).relative_to(folder)).as_posix() for name in names}


def code_digests(project: Project, root: Path) -> dict[str, str]:
    """SHA-256 (hex) of each Python file that metric, loss or training function are in, by its path as it is told.

    With those beside or below them that they import (`edgec.project.imports`).
    """
    named = [project.evaluation.metric] if project.evaluation else []
    named += [project.train.loss, project.train.function or ""] if project.train else []
    found: dict[str, str] = {}
    for entry, _ in filter(None, map(split_entry, named)):
        file = (root / entry).resolve()
        paths = {str(PurePath(entry).parent / path.relative_to(file.parent)): path for path in neighbours(file)}
        told = told_beside(entry, (entry, *paths))
        digests = {told[name]: digest_of(path) for name, path in {entry: file, **paths}.items()}
        found |= {name: digest for name, digest in digests.items() if digest}
    return found


def digest_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes; empty when it cannot be read: whoever loads it tells it better."""
    try:
        return sha256_of(file)
    except OSError:
        return ""


def project_file_digest(root: Path) -> str:
    """SHA-256 (hex) of the bytes of edgec.toml; empty when there is none."""
    file = root / PROJECT_FILE
    return sha256_of(file) if file.exists() else ""
